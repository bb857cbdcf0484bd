package btrfs

import (
	"fmt"
	"os"
)

const inodeExtrefKey = 13 // linux/btrfs_tree.h: BTRFS_INODE_EXTREF_KEY

// Paths finds the paths of inodes in a subvolume.
type Paths struct {
	subvolume *os.File
	id        uint64
	dirs      map[uint64]string // each ends in a slash
}

// PathsIn finds paths in the subvolume whose root is open. It borrows that, and needs CAP_SYS_ADMIN.
func PathsIn(subvolume *os.File) (*Paths, error) {
	info, err := Info(subvolume)
	if err != nil {
		return nil, err
	}
	return &Paths{subvolume, info.ID, map[uint64]string{firstFreeObjectID: ""}}, nil
}

// Of gives all paths of an inode, without a leading slash; none if it does not exist.
func (p *Paths) Of(inode uint64) (paths []string, err error) {
	names, err := p.names(inode)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		dir, err := p.dir(n.dir, 0)
		if err != nil {
			return nil, err
		}
		paths = append(paths, dir+n.name)
	}
	return paths, nil
}

// dir gives the path of a directory, which has one name.
func (p *Paths) dir(inode uint64, depth int) (string, error) {
	if path, known := p.dirs[inode]; known {
		return path, nil
	}
	names, err := p.names(inode)
	const deepest = 1 << 16 // else it is a circle, on a damaged filesystem
	if err == nil && (len(names) != 1 || depth > deepest) {
		err = fmt.Errorf("inode %d of %s is no directory that can be found", inode, p.subvolume.Name())
	}
	if err != nil {
		return "", err
	}
	above, err := p.dir(names[0].dir, depth+1)
	if err != nil {
		return "", err
	}
	path := above + names[0].name + "/"
	p.dirs[inode] = path
	return path, nil
}

type nameIn struct {
	dir  uint64
	name string
}

// names reads the items of struct btrfs_inode_ref and struct btrfs_inode_extref (linux/btrfs_tree.h).
func (p *Paths) names(inode uint64) (names []nameIn, err error) {
	add := func(dir uint64, item []byte, header, length int) (rest []byte) {
		if len(item) < header {
			return nil
		}
		end := min(header+int(le.Uint16(item[length:])), len(item))
		names = append(names, nameIn{dir, string(item[header:end])})
		return item[end:]
	}
	last := key{inode, inodeExtrefKey, maxUint64}
	err = searchRange(p.subvolume, p.id, 0, key{ObjectID: inode, Kind: inodeRefKey}, last, func(k key, item []byte) {
		for len(item) > 0 && k.Kind == inodeRefKey {
			item = add(k.Offset, item, 10, 8)
		}
		for len(item) >= 8 && k.Kind == inodeExtrefKey {
			item = add(le.Uint64(item), item, 18, 16)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reading the names of inode %d of %s: %w", inode, p.subvolume.Name(), err)
	}
	return names, nil
}
