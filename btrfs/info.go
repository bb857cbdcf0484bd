package btrfs

import (
	"fmt"
	"os"
)

// linux/btrfs_tree.h: BTRFS_ROOT_SUBVOL_RDONLY, in the flags of a root item and of struct btrfs_ioctl_get_subvol_info_args.
const rootSubvolReadOnly = 1 << 0

// linux/btrfs.h: struct btrfs_ioctl_get_subvol_info_args
const subvolInfoSize = 504

// Info describes the subvolume that holds dir, which may be any directory in it.
func Info(dir *os.File) (Subvolume, error) {
	arg := make([]byte, subvolInfoSize)
	if err := ioctl(dir, iocGetSubvolInfo, arg); err != nil {
		return Subvolume{}, fmt.Errorf("reading the subvolume of %s: %w", dir.Name(), err)
	}
	return Subvolume{
		ID:           native.Uint64(arg[0:]),
		Name:         cString(arg[8:264]),
		Container:    native.Uint64(arg[264:]),
		DirID:        native.Uint64(arg[272:]),
		ReadOnly:     native.Uint64(arg[288:])&rootSubvolReadOnly != 0,
		UUID:         uuidAt(arg, 296),
		ParentUUID:   uuidAt(arg, 312),
		ReceivedUUID: uuidAt(arg, 328),
		ChangedIn:    native.Uint64(arg[344:]),
		CreatedIn:    native.Uint64(arg[352:]),
		SentIn:       native.Uint64(arg[360:]),
		ReceivedIn:   native.Uint64(arg[368:]),
		Changed:      timeAt(native, arg, 376),
		Created:      timeAt(native, arg, 392),
		ReceivedAt:   timeAt(native, arg, 424),
	}, nil
}

// FilesystemID identifies the filesystem that holds dir.
func FilesystemID(dir *os.File) (UUID, error) {
	arg := make([]byte, 1024) // linux/btrfs.h: struct btrfs_ioctl_fs_info_args
	if err := ioctl(dir, iocFSInfo, arg); err != nil {
		return UUID{}, fmt.Errorf("reading the filesystem of %s: %w", dir.Name(), err)
	}
	return uuidAt(arg, 16), nil
}

// IdentifyDir identifies dir.
func IdentifyDir(dir *os.File) (DirID, error) {
	ino, err := inode(dir)
	if err != nil {
		return DirID{}, err
	}
	info, err := Info(dir)
	if err != nil {
		return DirID{}, err
	}
	id, err := FilesystemID(dir)
	return DirID{Filesystem: id, Subvolume: info.ID, Inode: ino}, err
}

// Path gives the path of dir from the top level of its filesystem, without a leading slash. It needs CAP_SYS_ADMIN.
func Path(dir *os.File) (string, error) {
	info, err := Info(dir)
	if err != nil {
		return "", err
	}
	ino, err := inode(dir)
	if err != nil {
		return "", err
	}
	path, err := pathInTree(dir, info.ID, ino)
	if err != nil || info.Container == 0 {
		return path, err
	}
	roots, err := ReadRoots(dir)
	if err != nil {
		return "", err
	}
	subvolume, err := roots.Path(info.ID)
	return subvolume + "/" + path, err
}

// pathInTree gives the path of a directory or file within its subvolume, ending in a slash unless it is empty.
func pathInTree(dir *os.File, tree, ino uint64) (string, error) {
	if ino == firstFreeObjectID {
		return "", nil
	}
	arg := make([]byte, 4096) // linux/btrfs.h: struct btrfs_ioctl_ino_lookup_args
	native.PutUint64(arg[0:], tree)
	native.PutUint64(arg[8:], ino)
	if err := ioctl(dir, iocInoLookup, arg); err != nil {
		return "", fmt.Errorf("looking up inode %d of subvolume %d: %w", ino, tree, err)
	}
	return cString(arg[16:]), nil
}
