// Package exclusive tells what subvolumes have for themselves: what deleting them would free, exactly and without quotas.
//
// Which data is one subvolume's alone is not on record anywhere (but in quota groups), and to ask for the owners of every extent takes
// minutes. So those extents are left out of which it is certain, by transactions and by a look at the same place of a relative, that
// another subvolume has them. Of the few that are left the kernel tells the owners: only what it says is counted.
package exclusive

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// A Space is a filesystem whose subvolumes may share data.
type Space struct {
	dir    *os.File
	roots  map[uint64]*btrfs.Subvolume
	family map[uint64]family
}

const inodeItemKey = 1 // linux/btrfs_tree.h: BTRFS_INODE_ITEM_KEY

var le = binary.LittleEndian // items of the trees are

// A family is that of all snapshots of what was one subvolume once, received or not: their root directory was made at one moment.
type family struct {
	in      uint64
	seconds uint64
	nanos   uint32
}

// New looks at the filesystem that holds dir, which must stay open. It needs CAP_SYS_ADMIN.
func New(dir *os.File) (*Space, error) {
	if err := btrfs.CheckFilesystem(dir); err != nil {
		return nil, err
	}
	roots, err := btrfs.ReadRoots(dir)
	if err != nil {
		return nil, err
	}
	s := &Space{dir, roots.All(), make(map[uint64]family)}
	root := btrfs.Key{ObjectID: btrfs.RootInode, Kind: inodeItemKey}
	for id := range s.roots {
		err := btrfs.SearchTree(dir, id, 0, root, root, func(_ btrfs.Key, item []byte) {
			if len(item) >= 160 { // linux/btrfs_tree.h: struct btrfs_inode_item
				s.family[id] = family{le.Uint64(item), le.Uint64(item[148:]), le.Uint32(item[156:])}
			}
		})
		if err != nil && err != unix.ENOENT { // deleted since
			return nil, fmt.Errorf("reading subvolume %d of %s: %w", id, dir.Name(), err)
		}
	}
	return s, nil
}

// Exclusive tells how many bytes of data on the disk belong to the subvolumes with these IDs, and to no other one: deleting all of them
// frees as much, and some metadata. What lies in metadata, as small files do, is not counted.
func (s *Space) Exclusive(ctx context.Context, ids ...uint64) (bytes int64, err error) {
	extents := make(map[uint64]int64) // those that may be exclusive: their sizes by their addresses; 0: shared
	for _, id := range ids {
		if err := s.candidates(ctx, id, ids, extents); err != nil {
			return 0, fmt.Errorf("looking for the data of subvolume %d of %s: %w", id, s.dir.Name(), err)
		}
	}
	return s.sum(ctx, ids, extents)
}

// sum adds up those extents that belong to nobody outside of the group.
func (s *Space) sum(ctx context.Context, group []uint64, extents map[uint64]int64) (bytes int64, err error) {
	closed, families := s.closed(group), families{s, make(map[uint64]family)}
	if len(closed) > 0 {
		if err := btrfs.Reclaim(s.dir); err != nil { // what is not committed yet is not in the extent tree
			return 0, err
		}
	}
	for address, size := range extents {
		if size == 0 {
			continue
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		exclusive := false
		if len(closed) > 0 {
			if exclusive, err = families.within(address, closed); err != nil {
				return 0, err
			}
		}
		if !exclusive {
			if exclusive, err = s.onlyIn(group, address); err != nil {
				return 0, err
			}
		}
		if exclusive {
			bytes += size
		}
	}
	return bytes, nil
}

// onlyIn asks the kernel whether an extent belongs to nobody outside of the group.
func (s *Space) onlyIn(group []uint64, address uint64) (bool, error) {
	owners, err := btrfs.OwnersOfExtent(s.dir, address)
	outside := func(o btrfs.Owner) bool { return !slices.Contains(group, o.Subvolume) && !s.isDeleted(o.Subvolume) }
	return err == nil && len(owners) > 0 && !slices.ContainsFunc(owners, outside), err
}

// isDeleted tells that the kernel is about to free what a subvolume has.
func (s *Space) isDeleted(id uint64) bool {
	root, ok := s.roots[id]
	return ok && root.Name == "" && !root.IsTop()
}

// candidates adds to extents those of a subvolume that may belong to the group alone.
func (s *Space) candidates(ctx context.Context, id uint64, group []uint64, extents map[uint64]int64) error {
	root, ok := s.roots[id]
	if !ok {
		return unix.ENOENT
	}
	var others []*cursor
	for _, other := range s.nearest(root, group) {
		others = append(others, &cursor{dir: s.dir, tree: other})
	}
	from, last := btrfs.Key{ObjectID: btrfs.RootInode, Kind: inodeItemKey}, btrfs.LastKey()
	since := s.since(root)
	for buffer := btrfs.NewSearch(mostAhead); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		count, err := buffer.Next(s.dir, id, since+1, from, last)
		if err != nil || count == 0 {
			return err
		}
		var failure error
		from = buffer.Each(count, func(k btrfs.Key, item []byte) {
			if e, ok := btrfs.DecodeExtent(k, item); ok && !e.Inline && failure == nil {
				failure = add(extents, k, e, others)
			}
		}).Next()
		if failure != nil {
			return failure
		}
	}
}

// add adds an extent, as a shared one if another subvolume has it at the same place.
func add(extents map[uint64]int64, k btrfs.Key, e btrfs.Extent, others []*cursor) error {
	if known, ok := extents[e.Logical]; ok && known == 0 {
		return nil
	}
	extents[e.Logical] = e.DiskLength
	for _, c := range others {
		there, err := c.find(k)
		if err != nil {
			return err
		}
		if other, ok := btrfs.DecodeExtent(k, there); ok && other.Logical == e.Logical {
			extents[e.Logical] = 0
			return nil
		}
	}
	return nil
}

// since gives a transaction: what a subvolume has in blocks that are not newer, another one has, too, in the same blocks. That is the
// parent that it is a snapshot of, or an older snapshot of the same parent, of which nothing was changed since.
func (s *Space) since(root *btrfs.Subvolume) (transaction uint64) {
	for _, other := range s.roots {
		if other == root || !other.ReadOnly || other.Name == "" || root.ParentUUID.IsZero() {
			continue
		}
		shared := uint64(0)
		switch {
		case other.UUID == root.ParentUUID:
			shared = root.CreatedIn
		case other.ParentUUID == root.ParentUUID && other.CreatedIn < root.CreatedIn:
			shared = other.CreatedIn
		}
		if other.ChangedIn <= shared {
			transaction = max(transaction, shared)
		}
	}
	return transaction
}

// nearest gives the relatives outside of the group that most likely share with a subvolume: the ones made before and after it.
func (s *Space) nearest(root *btrfs.Subvolume, group []uint64) (ids []uint64) {
	var before, after *btrfs.Subvolume
	for id, other := range s.roots {
		if slices.Contains(group, id) || s.isDeleted(id) || s.family[id] != s.family[root.ID] {
			continue
		}
		switch {
		case other.CreatedIn <= root.CreatedIn && (before == nil || before.CreatedIn < other.CreatedIn):
			before = other
		case other.CreatedIn > root.CreatedIn && (after == nil || after.CreatedIn > other.CreatedIn):
			after = other
		}
	}
	for _, other := range []*btrfs.Subvolume{after, before} {
		if other != nil {
			ids = append(ids, other.ID)
		}
	}
	return ids
}
