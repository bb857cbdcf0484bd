package tree

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

var errNoRights = hint.New(errors.New("its filesystem takes owners and modes, and does not keep them"),
	"use a folder on btrfs, ext4 or xfs; to do without them: --rsync-options '-rltDH --delete'")

// checkRights refuses the filesystem that a new folder is, or is to be, on, if it takes owners and modes and does not keep them, as ntfs-3g
// and others do. It tries that in the folder, or in the nearest directory above it. What fails there is told when the folder is used.
func checkRights(path string) error {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	for errors.Is(err, os.ErrNotExist) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		dir, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return nil
	}
	defer dir.Close()
	if _, err := walk.Lstat(dir, state.Dir); err == nil {
		return nil
	}
	was, err := walk.Lstat(dir, ".")
	if err != nil {
		return nil
	}
	name := ".btrfs-backup-" + rand.Text()
	if unix.Mkdirat(int(dir.Fd()), name, 0o700) != nil {
		return nil
	}
	kept := keepsRights(dir, name)
	err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	times := []unix.Timespec{was.Atim, was.Mtim}
	_ = unix.UtimesNanoAt(int(dir.Fd()), ".", times, 0)
	if !kept {
		return errNoRights
	}
	return err
}

// keepsRights gives a directory an owner and two modes. A refusal is no lie: rsync names the files that it concerns.
func keepsRights(dir *os.File, name string) bool {
	const uid, gid = 1, 2
	err := unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	st, statErr := walk.Lstat(dir, name)
	if err == nil && statErr == nil && (st.Uid != uid || st.Gid != gid) {
		return false
	}
	for _, mode := range []uint32{0o751, 0o710} {
		err := unix.Fchmodat(int(dir.Fd()), name, mode, 0)
		st, statErr := walk.Lstat(dir, name)
		if err == nil && statErr == nil && st.Mode&0o777 != mode {
			return false
		}
	}
	return true
}
