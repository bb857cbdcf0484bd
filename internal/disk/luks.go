package disk

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// An entry is a line of /etc/crypttab.
type entry struct {
	name, device string
	key          string // "": there is none
	keyFile      string // where it is; "": the program finds it, or a passphrase is needed
	options      []string
}

// stdin is what programs read as a key file; not every system has /dev/stdin.
const stdin = "/proc/self/fd/0"

// entry gives the line of the disk.
func (d Disk) entry(o Options) (e entry, err error) {
	lines, err := table(o.path("etc/crypttab"))
	if err != nil {
		return e, err
	}
	i := slices.IndexFunc(lines, func(words []string) bool { return len(words) > 1 && words[0] == d.LUKS })
	if i < 0 {
		return e, hint.Newf(fmt.Errorf("%s is not in /etc/crypttab", d.LUKS), "add a line: %s UUID=... KEYFILE luks,noauto", d.LUKS)
	}
	words := append(lines[i], "", "")
	e = entry{name: words[0], device: words[1], key: words[2]}
	if e.key == "none" || e.key == "-" {
		e.key = ""
	}
	if words[3] != "" {
		e.options = strings.Split(words[3], ",")
	}
	if e.has("swap") || e.has("tmp") {
		return e, hint.New(fmt.Errorf("the line of %s in /etc/crypttab makes a new filesystem each time", d.LUKS),
			"remove its option swap or tmp")
	}
	return e, e.findKey(o)
}

// has tells that an option is there, with a value or without.
func (e entry) has(names ...string) bool {
	return slices.ContainsFunc(e.options, func(option string) bool {
		name, _, _ := strings.Cut(option, "=")
		return slices.Contains(names, name)
	})
}

// value gives the value of an option.
func (e entry) value(name string) string {
	for _, option := range e.options {
		if value, found := strings.CutPrefix(option, name+"="); found {
			return value
		}
	}
	return ""
}

// findKey looks for the key file, also where systemd does if none is given.
func (e *entry) findKey(o Options) error {
	switch {
	case e.has("keyscript"):
		return nil
	case e.key == "":
		for _, dir := range []string{"etc", "run"} {
			if path := o.path(dir, "cryptsetup-keys.d", e.name+".key"); exists(path) {
				e.keyFile = path
				return nil
			}
		}
		return nil
	}
	e.keyFile = e.key
	if _, err := os.Stat(e.keyFile); err != nil {
		return hint.Newf(fmt.Errorf("key file of %s: %w", e.name, err),
			"put the key file there, or correct the line of %s in /etc/crypttab", e.name)
	}
	return nil
}

// unlock makes the mapping of the disk.
func (d Disk) unlock(ctx context.Context, o Options) error {
	e, err := d.entry(o)
	if err != nil {
		return err
	}
	device, err := o.device(ctx, e.device)
	if err != nil {
		return err
	}
	if device == "" {
		return &AbsentError{d.Name, e.device}
	}
	e.device = device
	needsPassphrase := e.keyFile == "" && !e.has("keyscript", "tpm2-device", "fido2-device", "pkcs11-uri")
	if needsPassphrase {
		err = d.unlockByPassphrase(ctx, o, e)
	} else {
		err = o.attach(ctx, e, "")
	}
	if err == nil && !exists(o.mapping(d)) {
		err = fmt.Errorf("%s is missing, although the program that makes it did not fail", o.mapping(d))
	}
	return err
}

func (o Options) mapping(d Disk) string { return o.path("dev/mapper", d.LUKS) }

// unlockByPassphrase asks for it, several times if it is wrong.
func (d Disk) unlockByPassphrase(ctx context.Context, o Options, e entry) error {
	if o.Ask == nil {
		return hint.Newf(fmt.Errorf("%s needs a passphrase, and there is no terminal to ask for it", e.name),
			"name a key file in its line in /etc/crypttab, or unlock it beforehand: cryptsetup open %s %s", e.device, e.name)
	}
	e.keyFile = stdin
	e.options = slices.DeleteFunc(e.options, func(option string) bool { return strings.HasPrefix(option, "keyfile-") })
	tries, err := strconv.Atoi(e.value("tries"))
	if err != nil || tries < 1 {
		tries = 3
	}
	for range tries {
		passphrase, askErr := o.Ask(ctx, fmt.Sprintf("Passphrase of disk %s (%s on %s): ", d.Name, e.name, e.device), true)
		if askErr != nil {
			return askErr
		}
		if err = o.attach(ctx, e, passphrase); err == nil || !isWrongKey(err) {
			return err
		}
		o.Log.Warn(fmt.Sprintf("disk %s: that passphrase is wrong", d.Name))
	}
	return hint.New(fmt.Errorf("unlocking %s: none of %d passphrases was right", e.name, tries), "try again")
}

// isWrongKey knows what libcryptsetup says, and systemd where it does not pass that on.
func isWrongKey(err error) bool {
	return strings.Contains(err.Error(), "No key available with this passphrase") || strings.Contains(err.Error(), "incorrect")
}

// attach runs the first program that is there and can unlock the entry. The passphrase is that of an entry whose key file is
// standard input.
func (o Options) attach(ctx context.Context, e entry, passphrase string) error {
	argv, err := o.attachCommand(e)
	if err != nil {
		return err
	}
	here := transport.Local{Level: slog.LevelDebug, Log: o.Log}
	if err := here.Run(ctx, transport.Command{Argv: argv, Input: passphrase}); err != nil {
		return fmt.Errorf("unlocking %s: %w", e.name, err)
	}
	return nil
}

func (o Options) attachCommand(e entry) ([]string, error) {
	systemd, isThere := o.program("systemd-cryptsetup", "usr/lib/systemd", "lib/systemd")
	if isThere && !e.has("keyscript") {
		key := e.keyFile
		if key == "" {
			key = "-"
		}
		// the last of equal options counts; it must not ask by itself, where nobody may see it
		options := strings.Join(append(slices.Clip(e.options), "tries=1", "headless=true"), ",")
		return []string{systemd, "attach", e.name, e.device, key, options}, nil
	}
	// it reads the key's place in crypttab, and asks by itself
	if program, isThere := o.program("cryptdisks_start"); isThere && e.key != "" {
		return []string{program, e.name}, nil
	}
	program, isThere := o.program("cryptsetup")
	switch {
	case e.keyFile == "":
		return nil, hint.New(fmt.Errorf("unlocking %s: no program is there for the key that its line in /etc/crypttab names", e.name),
			"install systemd-cryptsetup, or cryptdisks_start for a keyscript")
	case !isThere:
		return nil, hint.New(fmt.Errorf("unlocking %s: cryptsetup is missing", e.name), "install the package cryptsetup")
	}
	options, err := e.cryptsetupOptions()
	if err != nil {
		return nil, err
	}
	return slices.Concat([]string{program, "open", "--key-file", e.keyFile}, options, []string{e.device, e.name}), nil
}

// program finds a program in PATH, or in one of the directories.
func (o Options) program(name string, dirs ...string) (path string, isThere bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range dirs {
		if path := o.path(dir, name); exists(path) {
			return path, true
		}
	}
	return "", false
}

// options of crypttab, and what cryptsetup calls them
var (
	withoutMeaning = strings.Fields("luks noauto auto nofail quiet loud noearly initramfs tries timeout _netdev verify " +
		"x-systemd.device-timeout x-initrd.attach keyfile-timeout password-echo headless try-empty-password token-timeout")
	flagOf = map[string]string{
		"discard": "--allow-discards", "allow-discards": "--allow-discards", "readonly": "--readonly", "read-only": "--readonly",
		"same-cpu-crypt": "--perf-same_cpu_crypt", "submit-from-crypt-cpus": "--perf-submit_from_crypt_cpus",
		"no-read-workqueue": "--perf-no_read_workqueue", "no-write-workqueue": "--perf-no_write_workqueue",
		"header": "--header", "key-slot": "--key-slot", "keyslot": "--key-slot",
		"keyfile-offset": "--keyfile-offset", "keyfile-size": "--keyfile-size",
	}
)

// cryptsetupOptions refuses what it does not know, since that may matter.
func (e entry) cryptsetupOptions() (options []string, err error) {
	for _, option := range e.options {
		name, value, hasValue := strings.Cut(option, "=")
		flag, isKnown := flagOf[name]
		switch {
		case slices.Contains(withoutMeaning, name):
		case !isKnown:
			return nil, hint.Newf(fmt.Errorf("unlocking %s: cryptsetup has no option for %s in /etc/crypttab", e.name, option),
				"install systemd-cryptsetup or cryptdisks_start, or remove %s", option)
		case hasValue:
			options = append(options, flag+"="+value)
		default:
			options = append(options, flag)
		}
	}
	return options, nil
}

// lock removes the mapping.
func (o Options) lock(ctx context.Context, d Disk) error {
	argv := []string{"cryptsetup", "close", d.LUKS}
	if _, isThere := o.program("cryptsetup"); !isThere {
		argv = []string{"cryptdisks_stop", d.LUKS}
		if systemd, isThere := o.program("systemd-cryptsetup", "usr/lib/systemd", "lib/systemd"); isThere {
			argv = []string{systemd, "detach", d.LUKS}
		}
	}
	return o.run(ctx, argv...)
}
