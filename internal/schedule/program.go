package schedule

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// CheckNames refuses names that the files cannot hold as they are.
func (s Setup) CheckNames() error {
	for _, path := range []string{s.Program, s.Config} {
		if path != "" && !plain.MatchString(path) {
			return hint.New(fmt.Errorf("%q cannot be named in a unit", path), "use a path of letters, digits, and - _ . + only")
		}
	}
	for _, d := range s.Disks {
		if d.UUID != "" && !nameForm.MatchString(d.Name) {
			return hint.New(fmt.Errorf("disk %q cannot be named in a unit", d.Name), "rename it: use letters, digits, and - _ . only")
		}
	}
	return nil
}

// Check refuses what units cannot name, and a program that is not to be run as a user without being asked, since others could
// change it: another one owns it or a directory above it, or may write to one. The system runs none in a home or in a place for
// temporary files. The path of the program has no symbolic links.
func (s Setup) Check(user int) error {
	if err := s.CheckNames(); err != nil {
		return err
	}
	for at := s.Program; ; at = filepath.Dir(at) {
		if err := checkOwner(at, user); err != nil {
			return hint.Newf(fmt.Errorf("%s is not to be run by the system: %w", s.Program, err),
				"put it where only root can change it, and use that: sudo install %s /usr/local/sbin/btrfs-backup", s.Program)
		}
		if at == "/" {
			return nil
		}
	}
}

func checkOwner(path string, user int) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	const others, group = 0o002, 0o020
	// The groups below 100 are those of the system: Debian's staff may write to /usr/local, and is as good as root. The group with
	// the user's number is his own.
	const systemGroups = 100
	switch {
	case int(st.Uid) != user && st.Uid != 0:
		return fmt.Errorf("%s belongs to the user with the number %d", path, st.Uid)
	case st.Mode&others != 0, st.Mode&group != 0 && st.Gid >= systemGroups && int(st.Gid) != user:
		return fmt.Errorf("others can write to %s", path)
	case user == 0 && (path == "/root" || path == "/home"):
		return errors.New("it is in a home")
	case user == 0 && (path == "/tmp" || path == "/run" || strings.HasPrefix(path, "/var/tmp")):
		return errors.New("it is in a place for temporary files")
	}
	return nil
}
