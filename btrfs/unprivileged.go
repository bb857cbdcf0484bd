package btrfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

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
	children, err := searchChildren(dir)
	if errors.Is(err, unix.EPERM) {
		return childrenInReach(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("listing the subvolumes in %s: %w", dir.Name(), err)
	}
	return children, nil
}

// searchChildren is Children for whoever may search trees, which takes as many calls as there are directories with subvolumes.
func searchChildren(dir *os.File) (children []Child, err error) {
	info, err := Info(dir)
	if err != nil {
		return nil, err
	}
	ino, err := inode(dir)
	if err != nil {
		return nil, err
	}
	first, last := key{info.ID, rootRefKey, 0}, key{info.ID, rootRefKey, maxUint64}
	err = searchRange(dir, rootTree, 0, first, last, func(k key, item []byte) {
		dirID, name := decodeRootRef(item)
		children = append(children, Child{ID: k.Offset, DirID: dirID, Path: name})
	})
	if err != nil || len(children) == 0 {
		return nil, err
	}
	paths := map[uint64]string{ino: ""} // from dir, of the directories in which they lie
	above, err := pathInTree(dir, info.ID, ino)
	if err != nil {
		return nil, err
	}
	below := children[:0]
	for _, c := range children {
		path, known := paths[c.DirID]
		if !known {
			path, err = pathInTree(dir, info.ID, c.DirID)
			if errors.Is(err, unix.ENOENT) || err == nil && !strings.HasPrefix(path, above) { // deleted since; elsewhere
				path, err = elsewhere, nil
			}
			if err != nil {
				return nil, err
			}
			path = strings.TrimPrefix(path, above)
			paths[c.DirID] = path
		}
		if path != elsewhere {
			c.Path = path + c.Path
			below = append(below, c)
		}
	}
	return below, nil
}

const elsewhere = "/" // which no path begins with

// childrenInReach is Children for an ordinary user.
func childrenInReach(dir *os.File) ([]Child, error) {
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
