package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A Listing holds subvolumes, in the order of their IDs where it is of the whole filesystem. AlteredIn is known of those in the directory, of their copies, and of what is asked for.
type Listing struct {
	InDirectory []Subvolume // those directly in the listed directory
	All         []Subvolume // those of the whole filesystem; for an ordinary user, the ones in reach below the directory
	Top         UUID        // of the top level, which is not among them; none if All may not be all there are
}

// List lists the filesystem that holds dir. It fails rather than leave out what it may not read. AlteredIn is looked for also in what
// has one of the UUIDs, or was received as such.
func List(dir *os.File, also ...UUID) (Listing, error) {
	info, err := Info(dir)
	if err != nil {
		return Listing{}, err
	}
	ino, err := inode(dir)
	if err != nil {
		return Listing{}, err
	}
	all, top, err := listRoots(dir)
	if errors.Is(err, unix.EPERM) {
		all, err = listUnprivileged(dir)
	}
	if err != nil {
		return Listing{}, err
	}
	listing := Listing{All: all, Top: top}
	isHere := func(s *Subvolume) bool { return s.Container == info.ID && s.DirID == ino }
	here := make(map[UUID]bool)
	for _, uuid := range also {
		here[uuid] = !uuid.IsZero()
	}
	number := 0
	for i := range all {
		if s := &all[i]; isHere(s) {
			here[s.Identity()] = true
			number++
		}
	}
	listing.InDirectory = make([]Subvolume, 0, number)
	for i := range all {
		s := &all[i]
		if s.mayBeAltered() && (here[s.Identity()] || here[s.UUID]) {
			if err := s.findAltered(dir); err != nil {
				return Listing{}, err
			}
		}
		if isHere(s) {
			listing.InDirectory = append(listing.InDirectory, *s)
		}
	}
	return listing, nil
}

func listRoots(dir *os.File) (all []Subvolume, top UUID, err error) {
	all, err = searchRoots(dir)
	if err != nil {
		return nil, UUID{}, err
	}
	if len(all) > 0 && all[0].ID == topLevel {
		top = all[0].UUID
	}
	return slices.DeleteFunc(all, func(s Subvolume) bool { return s.Name == "" }), top, nil // one without a name is being deleted
}

// WaitDeleted waits until the space is free of all subvolumes of dir's filesystem that are deleted by now. It needs CAP_SYS_ADMIN.
func WaitDeleted(ctx context.Context, dir *os.File) error {
	if err := Reclaim(dir); err != nil {
		return err
	}
	const pause = 100 * time.Millisecond
	var waiting map[uint64]bool // nil before the first look
	for {
		roots, err := searchRoots(dir)
		if err != nil {
			return err
		}
		left := make(map[uint64]bool)
		for _, s := range roots {
			if s.Name == "" && s.ID != topLevel && (waiting == nil || waiting[s.ID]) { // its name is gone at once
				left[s.ID] = true
			}
		}
		if waiting = left; len(waiting) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// linux/btrfs_tree.h
const (
	rootTree       = 1
	topLevel       = 5
	rootTreeDir    = 6 // BTRFS_ROOT_TREE_DIR_OBJECTID
	quotaTree      = 8
	dirItemKey     = 84
	rootItemKey    = 132
	rootBackrefKey = 144
	rootRefKey     = 156
	qgroupInfoKey  = 242

	lastFreeObjectID = 1<<64 - 256
	maxUint64        = 1<<64 - 1
)

// searchRoots reads the root items of the top level and of all created subvolumes, with their back references, in the order of their
// IDs. Which one is the default stands before those.
func searchRoots(dir *os.File) (roots []Subvolume, err error) {
	var byDefault uint64
	err = searchTree(dir, rootTree, 0, key{ObjectID: topLevel, Kind: rootItemKey}, func(k key, item []byte) {
		switch {
		case k.ObjectID == rootTreeDir && k.Kind == dirItemKey && len(item) >= 8: // "default", the only entry
			byDefault = le.Uint64(item)
		case k.ObjectID != topLevel && k.ObjectID < firstFreeObjectID: // trees of another kind
		case k.Kind == rootItemKey:
			roots = append(roots, decodeRootItem(k.ObjectID, item))
		case k.Kind == rootBackrefKey: // sorts behind the root item of the same ID
			if n := len(roots); n > 0 && roots[n-1].ID == k.ObjectID {
				roots[n-1].Container = k.Offset
				roots[n-1].DirID, roots[n-1].Name = decodeRootRef(item)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing the subvolumes of %s: %w", dir.Name(), err)
	}
	for i := range roots {
		roots[i].Default = roots[i].ID == byDefault
	}
	return roots, nil
}

// decodeRootItem reads a struct btrfs_root_item (linux/btrfs_tree.h). Items of kernels before 3.6 end behind the level.
func decodeRootItem(id uint64, item []byte) Subvolume {
	s := Subvolume{ID: id}
	if len(item) < 375 {
		return s
	}
	s.ReadOnly = le.Uint64(item[208:])&rootSubvolReadOnly != 0
	s.UUID = uuidAt(item, 247)
	s.ParentUUID = uuidAt(item, 263)
	s.ReceivedUUID = uuidAt(item, 279)
	s.ChangedIn = le.Uint64(item[295:])
	s.CreatedIn = le.Uint64(item[303:])
	s.SentIn = le.Uint64(item[311:])
	s.ReceivedIn = le.Uint64(item[319:])
	s.Changed = timeAt(le, item, 327)
	s.Created = timeAt(le, item, 339)
	s.ReceivedAt = timeAt(le, item, 363)
	return s
}

// decodeRootRef reads a struct btrfs_root_ref and the name behind it (linux/btrfs_tree.h).
func decodeRootRef(item []byte) (dirID uint64, name string) {
	const size = 18
	if len(item) < size {
		return 0, ""
	}
	n := int(le.Uint16(item[16:]))
	return le.Uint64(item), string(item[size:min(size+n, len(item))])
}
