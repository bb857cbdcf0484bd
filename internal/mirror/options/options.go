// Package options knows the options of rsync that a user may give, and writes patterns for it.
package options

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"github.com/kballard/go-shellquote"
)

// The options of rsync that a user may give: they tell how files are compared and sent, which of their attributes are kept, and
// by filters which are left out. What others do to a backup is not known, or known to be bad: see refused.
const (
	plain = "a archive r recursive l links p perms t times g group o owner D devices specials A acls X xattrs H hard-links U atimes " +
		"E executability open-noatime numeric-ids x one-file-system S sparse preallocate fsync fake-super super " +
		"O omit-dir-times J omit-link-times c checksum I ignore-times y fuzzy W whole-file inplace partial P z compress new-compress " +
		"old-compress del delete delete-before delete-during delete-delay delete-after delete-excluded force F C cvs-exclude 0 from0 " +
		"v verbose h human-readable i itemize-changes progress stats s secluded-args protect-args 4 ipv4 6 ipv6 no-motd " +
		"blocking-io trust-sender inc-recursive i-r"
	negated = "links l perms p times t group g owner o D devices specials acls A xattrs X hard-links H atimes U numeric-ids " +
		"one-file-system x sparse S super omit-dir-times O omit-link-times J checksum c fuzzy y whole-file W inplace append partial " +
		"compress z force from0 verbose v human-readable h itemize-changes i progress secluded-args protect-args s blocking-io " +
		"bwlimit timeout contimeout inc-recursive i-r"
	valued = "exclude exclude-from include include-from f filter bwlimit info @ modify-window B block-size compress-choice zc " +
		"compress-level zl compress-threads zt skip-compress timeout contimeout max-alloc checksum-seed protocol password-file sockopts " +
		"M remote-option"
)

// allowed are these options, as they are written: true for those that take a value.
var allowed = func() map[string]bool {
	all := make(map[string]bool)
	for words, prefix := range map[string]string{plain: "", negated: "no-", valued: ""} {
		for _, word := range strings.Fields(words) {
			all[dashed(prefix+word)] = words == valued
		}
	}
	return all
}()

func dashed(word string) string {
	if len(word) == 1 {
		return "-" + word
	}
	return "--" + word
}

// refused are options of which it is known why they would make something else than a backup, and what to use in their place.
var refused = []struct{ names, reason, forward string }{
	{"-n --dry-run --list-only --only-write-batch --write-batch --read-batch --help -V --version", "nothing would be copied",
		"leave it out; --dry-run of btrfs-backup shows what would be done"},
	{"--remove-source-files --remove-sent-files", "rsync would delete the source", ""},
	{"--compare-dest --copy-dest --link-dest", "files would be missing in the backup, or shared with what others change",
		"leave it out: files of the backup before are shared by themselves, those of other trees after `btrfs-backup index`"},
	{"-u --update --existing --ignore-non-existing --ignore-existing --size-only --append --append-verify",
		"changed files would be missing in the backup", ""},
	{"--max-size --min-size --files-from -m --prune-empty-dirs --stop-after --stop-at --time-limit -d --dirs --old-dirs --old-d " +
		"--no-recursive --no-r --no-dirs --no-d", "files would be missing in the backup",
		"leave it out; --exclude names what is not to be copied"},
	{"-K --keep-dirlinks -R --relative --no-implied-dirs -T --temp-dir --partial-dir --delay-updates -b --backup --backup-dir --suffix " +
		"--mkpath --write-devices", "rsync would write to other places than the backup", ""},
	{"-L --copy-links -k --copy-dirlinks --copy-unsafe-links --copy-devices", "rsync would copy what lies outside of SOURCE",
		"leave it out, and back up the other directories as well"},
	{"--safe-links --munge-links --chmod --chown --usermap --groupmap --iconv --copy-as", "files would not be as they are in SOURCE", ""},
	{"--max-delete", "rsync would stop half-way", "leave it out, and see --max-delete of btrfs-backup"},
	{"--log-file --log-file-format --out-format --log-format --stderr --msgs2stderr --no-msgs2stderr --debug -8 --8-bit-output --outbuf",
		"btrfs-backup reads the messages of rsync", "leave it out; -v debug shows them"},
	{"-e --rsh --rsync-path --port --address", "btrfs-backup reaches other machines by itself",
		"leave it out; see --ssh-opt, --ssh-program and --remote-command"},
	{"--ignore-errors", "unreadable files would be deleted", ""},
	{"--daemon --server --sender --config --dparam", "rsync would not copy", ""},
	{"--", "the words after it would be further sources", "run btrfs-backup once for each source"},
}

// Split splits options for rsync as a shell does, without a shell. It refuses all but those that are known to be safe.
func Split(text string) ([]string, error) {
	words, err := shellquote.Split(text)
	if err != nil {
		return nil, hint.New(err, "quote it as for a shell")
	}
	given, err := parse(words)
	if err != nil {
		return nil, err
	}
	recurses := func(o option) bool {
		return slices.Contains([]string{"-a", "--archive", "-r", "--recursive"}, o.name)
	}
	if text != "" && !slices.ContainsFunc(given, recurses) {
		return nil, hint.New(errors.New("without -r or -a, rsync would copy nothing"), "add -a, or -r and what else is wanted of it")
	}
	return words, nil
}

// An option is one as rsync reads it.
type option struct{ name, value string }

// parse reads words as rsync does (popt): short options may stand together, and values behind them or in the next word.
func parse(words []string) (all []option, err error) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		if !strings.HasPrefix(word, "-") || word == "-" {
			return nil, hint.New(fmt.Errorf("%s is no option: rsync would take it for a further source", word),
				"run btrfs-backup once for each source")
		}
		names, value, hasValue := namesIn(word)
		for _, name := range names {
			if err := check(name); err != nil {
				return nil, err
			}
			all = append(all, option{name: name})
		}
		last := &all[len(all)-1]
		switch {
		case allowed[last.name] && !hasValue && i+1 == len(words):
			return nil, hint.New(fmt.Errorf("rsync's %s lacks its value", last.name), "see rsync(1)")
		case allowed[last.name] && !hasValue:
			i++
			value = words[i]
		case !allowed[last.name] && hasValue:
			return nil, hint.New(fmt.Errorf("rsync's %s takes no value", last.name), "see rsync(1)")
		}
		last.value = value
		if err := last.check(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// namesIn gives the options that a word holds, and the value of the last one, if that stands in it: "-avB700" is -a, -v, and -B
// with 700.
func namesIn(word string) (names []string, value string, hasValue bool) {
	if strings.HasPrefix(word, "--") {
		name, value, hasValue := strings.Cut(word, "=")
		return []string{name}, value, hasValue
	}
	for i, letter := range word[1:] {
		name := "-" + string(letter)
		names = append(names, name)
		if rest := word[1+i+len(string(letter)):]; allowed[name] && rest != "" {
			return names, strings.TrimPrefix(rest, "="), true
		}
	}
	return names, "", false
}

// check refuses an option that is not known to be safe.
func check(name string) error {
	if _, ok := allowed[name]; ok {
		return nil
	}
	reason, forward := "it is not known to be safe", ""
	for _, r := range refused {
		if slices.Contains(strings.Fields(r.names), name) {
			reason, forward = r.reason, r.forward
		}
	}
	return hint.New(fmt.Errorf("rsync's %s cannot be used: %s", name, reason),
		cmp.Or(forward, "leave it out; btrfs-backup-rsync(8) lists the options that can be used"))
}

// infoWord is one that --info takes to copy all the same: "help", or a part of it, would be all that rsync does.
var infoWord = regexp.MustCompile(`^(all|none|backup|copy|del|flist|misc|mount|name|nonreg|progress|remove|skip|stats|symsafe)[0-9]?$`)

// check looks at the value of an option.
func (o option) check() error {
	switch o.name {
	case "--info":
		for word := range strings.SplitSeq(o.value, ",") {
			if !infoWord.MatchString(strings.ToLower(word)) {
				return hint.New(fmt.Errorf("rsync's --info=%s cannot be used", o.value), "leave it out, or see rsync(1), --info")
			}
		}
	case "-M", "--remote-option":
		_, err := parse([]string{o.value})
		return err
	}
	return nil
}

// SkipDir is the option of rsync that leaves out every directory called name.
func SkipDir(name string) string { return Exclude(Literal(name) + "/") }

// Skip is the option of rsync that leaves out everything whose name matches the pattern.
func Skip(pattern string) string { return Exclude(pattern) }

// Exclude is the option of rsync that leaves out what matches a pattern. It keeps rsync from taking the beginning of a pattern for that of a rule ("+ x" would include x, "!" forget all rules).
func Exclude(pattern string) string {
	if pattern == "!" || strings.HasPrefix(pattern, "+ ") || strings.HasPrefix(pattern, "- ") {
		pattern = "- " + pattern
	}
	return "--exclude=" + pattern
}

// Literal escapes a name where rsync would take it for a pattern. A backslash is one to rsync only in what has wildcards.
func Literal(name string) string {
	if !strings.ContainsAny(name, "*?[") {
		return name
	}
	return Pattern(name)
}

// Pattern escapes a name in a pattern that has wildcards.
func Pattern(name string) string { return wildcards.Replace(name) }

var wildcards = strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`)

// OneFileSystem tells that among options is the one to stay on one filesystem.
func OneFileSystem(options []string) bool {
	given, _ := parse(options)
	stays := false
	for _, o := range given {
		switch o.name {
		case "-x", "--one-file-system":
			stays = true
		case "--no-x", "--no-one-file-system":
			stays = false
		}
	}
	return stays
}
