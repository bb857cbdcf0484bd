package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dennwc/btrfs"
	"golang.org/x/sys/unix"
)

// linux/btrfs.h
const (
	subvolReadOnly  = 1 << 1 // BTRFS_SUBVOL_RDONLY
	subvolNameMax   = 4039   // BTRFS_SUBVOL_NAME_MAX
	volNameMax      = 255    // BTRFS_VOL_NAME_MAX
	volArgsV2Size   = 4096
	volArgsV2Flags  = 16
	volArgsV2NameAt = 56
)

// Create makes an empty subvolume in dir.
func Create(dir *os.File, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := btrfs.CreateSubVolume(pathAt(dir, name)); err != nil {
		return fmt.Errorf("creating subvolume %s: %w", filepath.Join(dir.Name(), name), withoutPath(err))
	}
	return nil
}

// Snapshot makes a read-only snapshot of source in dir. A name that is taken is an error that is fs.ErrExist.
func Snapshot(source, dir *os.File, name string) error {
	return snapshot(source, dir, name, subvolReadOnly)
}

// SnapshotWritable makes a snapshot as Snapshot does, but one that can be written to.
func SnapshotWritable(source, dir *os.File, name string) error {
	return snapshot(source, dir, name, 0)
}

func snapshot(source, dir *os.File, name string, flags uint64) error {
	if err := checkName(name); err != nil {
		return err
	}
	arg := make([]byte, volArgsV2Size) // linux/btrfs.h: struct btrfs_ioctl_vol_args_v2
	native.PutUint64(arg[0:], uint64(source.Fd()))
	native.PutUint64(arg[volArgsV2Flags:], flags)
	copy(arg[volArgsV2NameAt:volArgsV2NameAt+subvolNameMax], name)
	if err := ioctl(dir, iocSnapCreateV2, arg); err != nil {
		return fmt.Errorf("creating snapshot %s: %w", filepath.Join(dir.Name(), name), err)
	}
	return nil
}

// Delete deletes a subvolume of dir, read-only or not, but not one that holds other subvolumes (ENOTEMPTY). The space is
// freed in the background.
//
// Without CAP_SYS_ADMIN the filesystem must be mounted with user_subvol_rm_allowed and the subvolume be writable.
func Delete(dir *os.File, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := btrfs.DeleteSubVolume(pathAt(dir, name)); err != nil {
		return fmt.Errorf("deleting subvolume %s: %w", filepath.Join(dir.Name(), name), withoutPath(err))
	}
	return nil
}

// Unlock takes away what keeps even root from deleting a subvolume of dir, and tells whether there was something: its root is immutable
// or append-only. That protects what somebody wants to keep, but a snapshot has it, too, which nobody asked for.
func Unlock(dir *os.File, name string) bool {
	root, err := OpenDirAt(dir, name)
	if err != nil {
		return false
	}
	defer root.Close()
	const locks = ImmutableFlag | AppendFlag
	flags, err := FlagsOf(root)
	return err == nil && flags&locks != 0 && SetReadOnly(dir, name, false) == nil && SetFlags(root, flags&^locks) == nil
}

// withoutPath leaves out the path that dennwc/btrfs was given, which nobody else knows.
func withoutPath(err error) error {
	if p := new(fs.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// SetReadOnly sets or clears the read-only flag of a subvolume of dir. A received subvolume that was writable for a while is
// no longer a copy of what was sent, whatever its received UUID says.
func SetReadOnly(dir *os.File, name string, readOnly bool) error {
	if err := checkName(name); err != nil {
		return err
	}
	sub, err := OpenDirAt(dir, name) // dennwc/btrfs would follow a symbolic link
	if err != nil {
		return err
	}
	defer sub.Close()
	opened, err := btrfs.Open(pathAt(sub, "."), true)
	if err == nil {
		defer opened.Close()
		var flags btrfs.SubvolFlags
		if readOnly {
			flags = btrfs.SubvolReadOnly
		}
		err = opened.SetFlags(flags)
	}
	if err != nil {
		return fmt.Errorf("setting the read-only flag of %s/%s to %t: %w", dir.Name(), name, readOnly, withoutPath(err))
	}
	return nil
}

// Rename gives a subvolume of dir another name in dir. A name that is taken is an error that is fs.ErrExist.
func Rename(dir *os.File, from, to string) error {
	if err := errors.Join(checkName(from), checkName(to)); err != nil {
		return err
	}
	fd := int(dir.Fd())
	if err := unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("renaming %s to %s: %w", filepath.Join(dir.Name(), from), to, err)
	}
	return nil
}

// Move gives a writable subvolume another place on its filesystem. Both directories are reached through one mount. An empty directory
// gives its name up, anything else is an error that is fs.ErrExist or ENOTEMPTY.
func Move(from *os.File, name string, to *os.File, newName string) error {
	if err := errors.Join(checkName(name), checkName(newName)); err != nil {
		return err
	}
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), newName, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) && !isSubvolumeAt(to, newName) { // an empty one is one to rmdir(2), too
		if err = unix.Unlinkat(int(to.Fd()), newName, unix.AT_REMOVEDIR); err == nil {
			err = unix.Renameat2(int(from.Fd()), name, int(to.Fd()), newName, unix.RENAME_NOREPLACE)
		}
	}
	if err != nil {
		return fmt.Errorf("moving %s to %s: %w", filepath.Join(from.Name(), name), filepath.Join(to.Name(), newName), err)
	}
	return nil
}

func isSubvolumeAt(dir *os.File, name string) bool {
	sub, err := OpenDirAt(dir, name)
	if err != nil {
		return false
	}
	defer sub.Close()
	return CheckSubvolume(sub) == nil
}

// Exchange lets two subvolumes of dir have each other's name, at once.
func Exchange(dir *os.File, a, b string) error {
	if err := errors.Join(checkName(a), checkName(b)); err != nil {
		return err
	}
	fd := int(dir.Fd())
	if err := unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("exchanging %s with %s: %w", filepath.Join(dir.Name(), a), b, err)
	}
	return nil
}

// SetDefault lets the subvolume with an ID be the one that is mounted when none is named.
func SetDefault(dir *os.File, id uint64) error {
	arg := make([]byte, 8)
	native.PutUint64(arg, id)
	if err := ioctl(dir, iocDefaultSubvol, arg); err != nil {
		return fmt.Errorf("making subvolume %d of %s the default: %w", id, dir.Name(), err)
	}
	return nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > volNameMax || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be the name of a subvolume", name)
	}
	return nil
}

// pathAt names an entry of an open directory for calls that take a path.
func pathAt(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}
