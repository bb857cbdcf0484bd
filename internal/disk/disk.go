// Package disk opens media before they are needed and closes them afterwards: a disk is unlocked (LUKS) and mounted, later unmounted,
// locked, and powered off.
//
// Only what this program opened is closed. What is mounted at the place of a disk must have the filesystem's UUID, if one is given.
// A disk in use is never unmounted lazily: the error names who uses it. A passphrase is asked for on a terminal and never stored.
//
// What was opened is noted in a directory that is empty after each start of the machine. So what a killed run left open is closed by
// the next one, and of several runs with one disk the last one closes it.
package disk

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// A Disk is a medium.
type Disk struct {
	Name       string
	Mount      string `toml:"mount"`       // its directory, known to /etc/fstab or systemd unless there is a UUID or a mapping
	UUID       string `toml:"uuid"`        // of its filesystem; "": any
	LUKS       string `toml:"luks"`        // its name in /etc/crypttab; "": it is not encrypted
	WhenAbsent string `toml:"when-absent"` // Skip or Fail, which callers follow; "": Fail
	Eject      bool   `toml:"eject"`       // power it off, so that it can be pulled
}

// What to do when a disk is absent.
const (
	Skip = "skip"
	Fail = "fail"
)

var (
	// those of btrfs, ext4, xfs and LUKS; of FAT; of NTFS
	uuidForm = regexp.MustCompile(`^([[:xdigit:]]{8}(-[[:xdigit:]]{4}){3}-[[:xdigit:]]{12}|[[:xdigit:]]{4}-[[:xdigit:]]{4}|[[:xdigit:]]{16})$`)
	nameForm = regexp.MustCompile(`^[[:alnum:]_][[:alnum:]_.+-]*$`)
)

// Check gives all that is wrong with it.
func (d Disk) Check() (c hint.Complaints) {
	if !nameForm.MatchString(d.Name) {
		c.Add("", "use letters, digits, and _ . + - for the name: [disk.usb]", "%q is no name of a disk", d.Name)
	}
	switch {
	case d.Mount == "":
		c.Add("mount", `give the directory where the disk is mounted: mount = "/mnt/usb"`, "is missing")
	case !filepath.IsAbs(d.Mount):
		c.Add("mount", `give the whole path: mount = "/mnt/usb"`, "%q is no absolute path", d.Mount)
	case filepath.Clean(d.Mount) == "/":
		c.Add("mount", `give the directory where the disk is mounted: mount = "/mnt/usb"`, "%q is the root of this system, no disk", d.Mount)
	}
	if d.UUID != "" && !uuidForm.MatchString(d.UUID) {
		c.Add("uuid", "`findmnt -o UUID "+cmp.Or(d.Mount, "DIR")+"` shows it while the disk is mounted", "%q is no UUID of a filesystem", d.UUID)
	}
	if d.LUKS != "" && !nameForm.MatchString(d.LUKS) {
		c.Add("luks", `give the first word of its line in /etc/crypttab: luks = "usb_crypt"`, "%q is no name of a mapping", d.LUKS)
	}
	if d.WhenAbsent != "" && d.WhenAbsent != Skip && d.WhenAbsent != Fail {
		c.Add("when-absent", `"skip" is no failure, "fail" is one`, `%q is neither "skip" nor "fail"`, d.WhenAbsent)
	}
	return c
}

// Holds tells that a path is on the disk while that is mounted.
func (d Disk) Holds(path string) bool {
	rel, err := filepath.Rel(d.Mount, path)
	return err == nil && filepath.IsLocal(rel)
}

// IsMounted tells that something is mounted in its place.
func (d Disk) IsMounted() bool {
	m, err := mountedAt(d.Mount)
	return err == nil && m != nil
}

// Options are what opening and closing need.
type Options struct {
	Log *slog.Logger
	// Ask asks the user at the terminal; see ssh.Options. It is nil if there is nobody to ask.
	Ask func(ctx context.Context, question string, secret bool) (string, error)
	// State is a directory for notes that does not outlive a start of the machine; "": /run/btrfs-backup.
	State string
	// Patience is how long a disk in use is waited for; 0: 10 seconds.
	Patience time.Duration

	root string // before the paths of the system's files, for tests
}

// path gives the path of a file of the system.
func (o Options) path(elements ...string) string {
	return filepath.Join(append([]string{"/", o.root}, elements...)...)
}

// output runs a program and gives what it says. Those that look for a UUID must not believe the cache of libblkid: minutes ago
// the device may have been another disk.
func (o Options) output(ctx context.Context, argv ...string) (string, error) {
	c := transport.Command{Argv: argv, Env: []string{"BLKID_FILE=/dev/null"}}
	return transport.Local{Level: slog.LevelDebug, Log: o.Log}.OutputOf(ctx, c)
}

// run runs a program.
func (o Options) run(ctx context.Context, argv ...string) error {
	said, err := o.output(ctx, argv...)
	if said != "" {
		o.Log.Debug(argv[0] + ": " + said)
	}
	return err
}

// AbsentError tells that a disk is not there.
type AbsentError struct {
	Disk   string
	Device string // that was looked for
}

func (e *AbsentError) Error() string {
	return fmt.Sprintf("disk %s is absent: there is no device %s", e.Disk, e.Device)
}

// Hint gives the way forward.
func (e *AbsentError) Hint() string { return "plug it in and switch it on" }
