package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mustBeAt fails unless the folder is at a path.
func (d *Dir) mustBeAt(path string) error {
	dir, err := walk.OpenPath(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return d.MustBe(dir)
}

// MustBe fails unless the other file is the folder.
func (d *Dir) MustBe(other *os.File) error {
	same, err := SameFile(d.dir, other)
	if err == nil && !same {
		err = fmt.Errorf("%s is another directory than before", other.Name())
	}
	return err
}

// SameFile tells whether two open files are one.
func SameFile(a, b *os.File) (bool, error) {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	return os.SameFile(infoA, infoB), nil
}

// mountWhole mounts the whole filesystem of the folder, nowhere yet, and gives the path of the folder in it.
func (d *Dir) mountWhole(mount *mountinfo.Info) (tree *os.File, within string, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.dir.Fd()), &st); err != nil {
		return nil, "", os.NewSyscallError("fstatfs", err)
	}
	if st.Flags&unix.ST_RDONLY != 0 { // a mount for writing might make all of them writable
		return nil, "", unix.EROFS
	}
	if within, err = btrfs.Path(d.dir); err != nil {
		return nil, "", err
	}
	if tree, err = mountTop(mount.Source); err != nil {
		return nil, "", err
	}
	folder, err := btrfs.OpenBeneath(tree, filepath.Clean("./"+within), unix.O_RDONLY)
	if err == nil {
		err = d.MustBe(folder)
		folder.Close()
	}
	if err != nil {
		tree.Close()
		return nil, "", err
	}
	return tree, within, nil
}

// mountTop mounts the top level of the filesystem on a device, nowhere yet.
func mountTop(device string) (*os.File, error) {
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "source", device)
	if err == nil {
		err = unix.FsconfigSetString(fs, "subvolid", "5")
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// findMounted marks the subvolumes that are mounted, themselves or a directory in them. The kernel deletes them
// all the same.
func (d *Dir) findMounted(l *btrfs.Listing) error {
	own, err := host.MountOf(d.dir)
	if err != nil || own == nil {
		return err
	}
	mounted := make(map[uint64]bool)
	_, err = mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		if m.Major == own.Major && m.Minor == own.Minor {
			for option := range strings.SplitSeq(m.VFSOptions, ",") {
				if text, ok := strings.CutPrefix(option, "subvolid="); ok {
					id, _ := strconv.ParseUint(text, 10, 64)
					mounted[id] = true
				}
			}
		}
		return true, false
	})
	if err != nil {
		return fmt.Errorf("reading the mount table: %w", err)
	}
	for _, listed := range [][]btrfs.Subvolume{l.All, l.InDirectory} {
		for i := range listed {
			listed[i].Mounted = mounted[listed[i].ID]
		}
	}
	return nil
}
