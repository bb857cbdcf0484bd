package btrfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Child is a subvolume within another one.
type Child struct {
	ID    uint64
	DirID uint64 // inode number of the directory that it lies in
	Path  string // from the directory that was asked about
}

// Children lists the subvolumes of the same subvolume that lie below dir, without those within them. It needs no
// privilege; what the user may not reach is left out.
func Children(dir *os.File) ([]Child, error) {
	var children []Child
	arg := make([]byte, 4096) // linux/btrfs.h: struct btrfs_ioctl_get_subvol_rootref_args
	for {
		err := ioctl(dir, iocGetSubvolRootref, arg)
		if err != nil && !errors.Is(err, unix.EOVERFLOW) { // EOVERFLOW: there are more, from the new minimum on
			return nil, fmt.Errorf("listing the subvolumes in %s: %w", dir.Name(), err)
		}
		for i := range int(arg[4088]) {
			id, dirID := native.Uint64(arg[8+16*i:]), native.Uint64(arg[16+16*i:])
			path, err := childPath(dir, id, dirID)
			switch {
			case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOENT): // elsewhere or out of reach; deleted since
			case err != nil:
				return nil, fmt.Errorf("looking up subvolume %d in %s: %w", id, dir.Name(), err)
			default:
				children = append(children, Child{ID: id, DirID: dirID, Path: path})
			}
		}
		if err == nil {
			return children, nil
		}
	}
}

func childPath(dir *os.File, id, dirID uint64) (string, error) {
	arg := make([]byte, 4096) // linux/btrfs.h: struct btrfs_ioctl_ino_lookup_user_args
	native.PutUint64(arg[0:], dirID)
	native.PutUint64(arg[8:], id)
	if err := ioctl(dir, iocInoLookupUser, arg); err != nil {
		return "", err
	}
	return cString(arg[272:]) + cString(arg[16:272]), nil
}

func listUnprivileged(dir *os.File) ([]Subvolume, error) {
	ino, err := inode(dir)
	if err != nil {
		return nil, err
	}
	children, err := Children(dir)
	if err != nil {
		return nil, err
	}
	var all []Subvolume
	for _, c := range children {
		s, err := InfoAt(dir, c.Path)
		switch {
		case errors.Is(err, unix.ENOENT): // deleted since
		case errors.Is(err, unix.EACCES) && c.DirID != ino: // out of reach
		case err != nil:
			return nil, err
		default:
			all = append(all, s)
		}
	}
	return all, nil
}

// InfoAt describes the subvolume at a path below dir; see OpenDirAt.
func InfoAt(dir *os.File, path string) (Subvolume, error) {
	f, err := OpenDirAt(dir, path)
	if err != nil {
		return Subvolume{}, err
	}
	defer f.Close()
	return Info(f)
}

// DescribeAt is InfoAt, and tells whether somebody altered the subvolume since it was made, as List does.
func DescribeAt(dir *os.File, path string) (Subvolume, error) {
	s, err := InfoAt(dir, path)
	if err == nil {
		err = s.findAltered(dir)
	}
	return s, err
}
