package btrfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Owner is a file that data on the disk belongs to.
type Owner struct {
	Subvolume uint64 // ID
	Inode     uint64
	Offset    int64 // in the file
}

// OwnersOf gives the files with the block at a logical address, at their offsets, or, of a compressed extent, with any part of it.
// It needs CAP_SYS_ADMIN.
func OwnersOf(dir *os.File, logical uint64) ([]Owner, error) { return owners(dir, logical, 0) }

// OwnersOfExtent gives the files with any part of the extent that begins at a logical address. Where that part is in the file,
// their extents tell.
func OwnersOfExtent(dir *os.File, logical uint64) ([]Owner, error) {
	const ignoreOffset = 1 << 0 // linux/btrfs.h: BTRFS_LOGICAL_INO_ARGS_IGNORE_OFFSET
	return owners(dir, logical, ignoreOffset)
}

func owners(dir *os.File, logical uint64, flags uint64) ([]Owner, error) {
	const first, most, headerSize = 64 << 10, 16 << 20, 16 // linux/fs/btrfs/ioctl.c: btrfs_ioctl_logical_to_ino
	for size := first; ; size = most {
		container := make([]byte, size) // linux/btrfs.h: struct btrfs_data_container
		var pinned runtime.Pinner
		pinned.Pin(unsafe.SliceData(container))
		arg := make([]byte, 56) // linux/btrfs.h: struct btrfs_ioctl_logical_ino_args
		native.PutUint64(arg[0:], logical)
		native.PutUint64(arg[8:], uint64(size))
		native.PutUint64(arg[40:], flags)
		native.PutUint64(arg[48:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(container)))))
		err := ioctl(dir, iocLogicalInoV2, arg)
		pinned.Unpin()
		if errors.Is(err, unix.ENOENT) { // freed since
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("looking for the files with block %d of %s: %w", logical, dir.Name(), err)
		}
		if missed := native.Uint32(container[12:]); missed > 0 && size == most {
			return nil, fmt.Errorf("looking for the files with block %d of %s: there are too many", logical, dir.Name())
		} else if missed > 0 {
			continue
		}
		var found []Owner
		for rest := container[headerSize:]; len(found) < int(native.Uint32(container[8:]))/3; rest = rest[24:] {
			found = append(found, Owner{Inode: native.Uint64(rest), Offset: int64(native.Uint64(rest[8:])), Subvolume: native.Uint64(rest[16:])})
		}
		return found, nil
	}
}

// Roots are the subvolumes of a filesystem, with what finds paths in it.
type Roots struct {
	dir *os.File
	all map[uint64]*Subvolume
}

// ReadRoots reads the subvolumes of the filesystem that holds dir, which must stay open. It needs CAP_SYS_ADMIN.
func ReadRoots(dir *os.File) (Roots, error) {
	found, err := searchRoots(dir)
	all := make(map[uint64]*Subvolume, len(found))
	for i := range found {
		all[found[i].ID] = &found[i]
	}
	return Roots{dir, all}, err
}

// All gives the top level, and all subvolumes: those without a name are being deleted.
func (r Roots) All() map[uint64]*Subvolume { return r.all }

// Subvolume describes a subvolume, but not whether it was altered.
func (r Roots) Subvolume(id uint64) (Subvolume, bool) {
	s, ok := r.all[id]
	if !ok {
		return Subvolume{}, false
	}
	return *s, true
}

// Path gives the path of a subvolume from the top level, without a leading slash; that of the top level is empty.
func (r Roots) Path(id uint64) (path string, err error) {
	for s, ok := r.all[id]; ok && s.Container != 0; s, ok = r.all[s.Container] {
		prefix, err := pathInTree(r.dir, s.Container, s.DirID)
		if err != nil {
			return "", err
		}
		path = prefix + s.Name + "/" + path
	}
	return strings.TrimSuffix(path, "/"), nil
}

// FilePath gives one path of a file in its subvolume.
func (r Roots) FilePath(subvolume, inode uint64) (string, error) {
	path, err := pathInTree(r.dir, subvolume, inode)
	return strings.TrimSuffix(path, "/"), err
}

// FileExtents is Extents for a file that is not open, in whole.
func (r Roots) FileExtents(subvolume, inode uint64) ([]Extent, error) {
	all, err := extentsOf(r.dir, subvolume, inode, 0, 1<<63-1)
	if err != nil {
		return nil, fmt.Errorf("reading the extents of inode %d of subvolume %d: %w", inode, subvolume, err)
	}
	return all, nil
}

// A Sharer is a file that has a block together with others.
type Sharer struct {
	Subvolume string // path of its subvolume from the top level
	File      string // its path in that
	Offset    int64
	ID        uint64 // of the subvolume
}

// Sharers gives the other files that have the block at an offset of a file, which are damaged with it: of a compressed extent, all
// that have a part of it. It needs CAP_SYS_ADMIN.
func Sharers(file *os.File, offset int64) ([]Sharer, error) {
	extents, err := Extents(file, offset, 1)
	if err != nil || len(extents) == 0 || extents[0].Inline {
		return nil, err
	}
	e := extents[0]
	at := e.Logical
	if e.Compression == Uncompressed {
		at += uint64(e.Skip + offset - e.Offset)
	}
	found, err := OwnersOf(file, at)
	if err != nil {
		return nil, err
	}
	own, err := Info(file)
	if err != nil {
		return nil, err
	}
	ino, err := inode(file)
	if err != nil {
		return nil, err
	}
	roots, err := ReadRoots(file)
	if err != nil {
		return nil, err
	}
	var sharers []Sharer
	for _, o := range found {
		if o.Subvolume == own.ID && o.Inode == ino {
			continue
		}
		s := Sharer{Offset: o.Offset, ID: o.Subvolume}
		if s.Subvolume, err = roots.Path(o.Subvolume); err == nil {
			s.File, err = roots.FilePath(o.Subvolume, o.Inode)
		}
		if errors.Is(err, unix.ENOENT) { // deleted since
			continue
		}
		if err != nil {
			return nil, err
		}
		sharers = append(sharers, s)
	}
	return sharers, nil
}
