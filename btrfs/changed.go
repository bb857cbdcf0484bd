package btrfs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	inodeRefKey = 12 // linux/btrfs_tree.h: BTRFS_INODE_REF_KEY
	// tick is more than the clock of inodes may lag behind that of snapshots: it moves only with each tick of the kernel.
	tick = 100 * time.Millisecond
)

// IsChanged tells whether somebody changed the subvolume of dir since a snapshot of it was taken. What stands directly in one
// directory under hidden names does not count, nor what names are in it: that with the inode number except, or none. As for
// AlteredIn, reading changes nothing. An ordinary user cannot see it, and is told that it changed. What is not on disk yet is not
// seen: call SyncFilesystem first.
func IsChanged(dir *os.File, snapshot Subvolume, except uint64) (bool, error) {
	source, err := Info(dir)
	if err != nil {
		return false, err
	}
	if source.ChangedIn <= snapshot.CreatedIn {
		return false, nil
	}
	changed, inDirectory := make(map[uint64]time.Time), map[uint64]bool{except: true}
	links := uint32(0)
	from := key{ObjectID: firstFreeObjectID, Kind: inodeItemKey}
	err = searchTree(dir, source.ID, snapshot.CreatedIn+1, from, func(k key, item []byte) {
		switch {
		case k.Kind == inodeRefKey && k.Offset == except && links == 1: // else it stands elsewhere, too
			inDirectory[k.ObjectID] = len(item) > 10 && item[10] == '.' // linux/btrfs_tree.h: struct btrfs_inode_ref
		case k.Kind == inodeItemKey && len(item) >= 160: // linux/btrfs_tree.h: struct btrfs_inode_item
			links = le.Uint32(item[40:])
			if le.Uint64(item[8:]) > snapshot.CreatedIn {
				changed[k.ObjectID] = timeAt(le, item, 124)
			}
		}
	})
	for inode, at := range changed {
		if err != nil || inDirectory[inode] {
			continue
		}
		if at.After(snapshot.Created.Add(-tick)) {
			return true, nil
		}
		var before time.Time // the clock may have been wrong for a while
		if before, err = changeTime(dir, snapshot.ID, inode); err == nil && !at.Equal(before) {
			return true, nil
		}
	}
	if errors.Is(err, unix.EPERM) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for changes in %s: %w", dir.Name(), err)
	}
	return false, nil
}

// changeTime gives the ctime of an inode in a tree, zero if it is not there.
func changeTime(dir *os.File, tree, inode uint64) (at time.Time, err error) {
	item := key{ObjectID: inode, Kind: inodeItemKey}
	err = searchRange(dir, tree, 0, item, item, func(_ key, item []byte) {
		if len(item) >= 160 {
			at = timeAt(le, item, 124)
		}
	})
	return at, err
}
