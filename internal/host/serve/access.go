package serve

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"

	"golang.org/x/sys/unix"
)

// mustBeOurs refuses to receive where another user can write to the folder, or to a directory between the root and it: he could
// exchange what is received there.
func (c *confinement) mustBeOurs(d *local.Dir) error {
	if err := mustBeUnwritable(c.root); err != nil {
		return err
	}
	found, err := c.walk(d.Status().Path, func(dir *os.File, name string) (*os.File, error) {
		next, err := btrfs.OpenDirAt(dir, name)
		if err != nil {
			return nil, err
		}
		if err := mustBeUnwritable(next); err != nil {
			next.Close()
			return nil, err
		}
		return next, nil
	})
	if err != nil {
		return err
	}
	defer found.Close()
	return d.MustBe(found)
}

func mustBeUnwritable(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0 {
		return nil
	}
	return hint.New(fmt.Errorf("refused: other users can write to %s", dir.Name()),
		fmt.Sprintf("there, run: chown root %[1]s; chmod go-w %[1]s", dir.Name()))
}

// warning tells once, if it is so, that other users can reach what is received: a set-uid program in a backup would make them root.
func (s *server) warning(d *local.Dir) (text string) {
	open, err := isOpen(d)
	if err != nil {
		s.o.Log.Debug(fmt.Sprintf("looking who can enter %s: %v", d.Status().Path, err))
	}
	if open {
		s.warned.Do(func() {
			text = fmt.Sprintf("other users there can enter %[1]s, and run set-uid programs in its backups: chmod 700 %[1]s", d.Status().Path)
		})
	}
	return text
}

// isOpen tells whether other users can enter a folder and run set-uid programs there.
func isOpen(d *local.Dir) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.File().Fd()), &st); err != nil || st.Flags&unix.ST_NOSUID != 0 {
		return false, err
	}
	for dir := d.Status().Path; ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return false, &os.PathError{Op: "stat", Path: dir, Err: err}
		}
		if forAll, forGroup := st.Mode&0o001 != 0, st.Mode&0o010 != 0 && st.Gid != 0; !forAll && !forGroup {
			return false, nil
		}
		if dir == "/" {
			return true, nil
		}
	}
}
