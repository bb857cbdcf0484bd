package btrfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenInode opens a file or directory of a subvolume of the filesystem that holds dir, wherever that is mounted, by its numbers. The
// name is for messages. It needs CAP_DAC_READ_SEARCH.
func OpenInode(dir *os.File, subvolume, inode uint64, flags int, name string) (*os.File, error) {
	const withoutParent = 0x4d              // linux/exportfs.h: FILEID_BTRFS_WITHOUT_PARENT
	handle := make([]byte, 20)              // linux/fs/btrfs/export.h: struct btrfs_fid; generation 0 is any
	native.PutUint64(handle, inode)         // objectid
	native.PutUint64(handle[8:], subvolume) // root_objectid
	fd, err := unix.OpenByHandleAt(int(dir.Fd()), unix.NewFileHandle(withoutParent, handle), flags|unix.O_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// OpenSubvolume opens the root of any subvolume of dir's filesystem by its ID, as OpenInode does.
func OpenSubvolume(dir *os.File, id uint64) (*os.File, error) {
	return OpenInode(dir, id, RootInode, unix.O_RDONLY|unix.O_DIRECTORY, fmt.Sprintf("subvolume %d of the filesystem of %s", id, dir.Name()))
}
