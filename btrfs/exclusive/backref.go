package exclusive

import (
	"errors"
	"fmt"
	"math"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// linux/btrfs_tree.h: what the extent tree holds
const (
	extentTree = 2

	extentItemKey     = 168
	metadataItemKey   = 169
	extentOwnerRefKey = 172
	treeBlockRefKey   = 176
	extentDataRefKey  = 178
	sharedBlockRefKey = 182
	sharedDataRefKey  = 184

	extentFlagTreeBlock = 1 << 1
)

// references are what the extent tree tells of who refers to an extent or a tree block.
type references struct {
	roots  []uint64 // subvolumes
	blocks []uint64 // addresses of tree blocks
}

// referencesTo reads who refers to the extent or tree block at an address.
func (s *Space) referencesTo(address uint64) (r references, err error) {
	first, last := btrfs.Key{ObjectID: address}, btrfs.Key{ObjectID: address, Kind: math.MaxUint8, Offset: math.MaxUint64}
	err = btrfs.SearchTree(s.dir, extentTree, 0, first, last, func(k btrfs.Key, item []byte) {
		switch k.Kind {
		case extentItemKey, metadataItemKey:
			r.decode(k.Kind, item)
		case extentDataRefKey:
			if len(item) >= 8 {
				r.roots = append(r.roots, le.Uint64(item))
			}
		case treeBlockRefKey:
			r.roots = append(r.roots, k.Offset)
		case sharedDataRefKey, sharedBlockRefKey:
			r.blocks = append(r.blocks, k.Offset)
		}
	})
	return r, err
}

// decode reads a struct btrfs_extent_item with the struct btrfs_extent_inline_ref behind it (linux/btrfs_tree.h).
func (r *references) decode(kind uint8, item []byte) {
	const size, blockInfoSize = 24, 18 // struct btrfs_tree_block_info
	if len(item) < size {
		return
	}
	rest := item[size:]
	if kind == extentItemKey && le.Uint64(item[16:])&extentFlagTreeBlock != 0 {
		rest = rest[min(blockInfoSize, len(rest)):]
	}
	lengths := map[byte]int{extentOwnerRefKey: 9, treeBlockRefKey: 9, sharedBlockRefKey: 9, extentDataRefKey: 29, sharedDataRefKey: 13}
	for len(rest) > 8 {
		n, ok := lengths[rest[0]]
		if !ok || n > len(rest) {
			return
		}
		switch rest[0] {
		case extentDataRefKey, treeBlockRefKey:
			r.roots = append(r.roots, le.Uint64(rest[1:]))
		case sharedDataRefKey, sharedBlockRefKey:
			r.blocks = append(r.blocks, le.Uint64(rest[1:]))
		}
		rest = rest[n:]
	}
}

// families remembers to which one a tree block belongs: blocks are shared by snapshots only, so all who have one are of one family.
type families struct {
	space *Space
	known map[uint64]family
}

var errNoFamily = errors.New("it belongs to no subvolume")

// of gives the families of those who refer to what is at an address.
func (f families) of(address uint64) (all []family, err error) {
	r, err := f.space.referencesTo(address)
	if err != nil {
		return nil, err
	}
	for _, id := range r.roots {
		of, ok := f.space.family[id]
		if !ok {
			return nil, errNoFamily
		}
		all = append(all, of)
	}
	for _, block := range r.blocks {
		of, err := f.ofBlock(block)
		if err != nil {
			return nil, err
		}
		all = append(all, of)
	}
	if len(all) == 0 {
		return nil, errNoFamily
	}
	return all, nil
}

// ofBlock goes up from a tree block to a subvolume.
func (f families) ofBlock(block uint64) (of family, err error) {
	const highest = 8 // linux/btrfs_tree.h: BTRFS_MAX_LEVEL
	var passed []uint64
	for at := block; len(passed) <= highest; {
		if known, ok := f.known[at]; ok {
			of = known
			break
		}
		passed = append(passed, at)
		r, err := f.space.referencesTo(at)
		if err != nil {
			return of, err
		}
		if len(r.roots) > 0 {
			known, ok := f.space.family[r.roots[0]]
			if !ok {
				return of, errNoFamily
			}
			of = known
			break
		}
		if len(r.blocks) == 0 {
			return of, errNoFamily
		}
		at = r.blocks[0]
	}
	if of == (family{}) {
		return of, errNoFamily
	}
	for _, at := range passed {
		f.known[at] = of
	}
	return of, nil
}

// closed gives the families all of whose members are in a group, but for those that are being deleted.
func (s *Space) closed(group []uint64) map[family]bool {
	inGroup := make(map[uint64]bool, len(group))
	for _, id := range group {
		inGroup[id] = true
	}
	closed := make(map[family]bool)
	for _, id := range group {
		if of, ok := s.family[id]; ok {
			closed[of] = true
		}
	}
	for id, of := range s.family {
		if !inGroup[id] && !s.isDeleted(id) {
			delete(closed, of)
		}
	}
	return closed
}

// within tells that an extent belongs to closed families only. If that cannot be told, the answer is no.
func (f families) within(address uint64, closed map[family]bool) (bool, error) {
	all, err := f.of(address)
	if errors.Is(err, errNoFamily) || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the owners of block %d: %w", address, err)
	}
	for _, of := range all {
		if !closed[of] {
			return false, nil
		}
	}
	return true, nil
}
