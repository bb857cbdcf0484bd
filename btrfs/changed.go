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
// directory does not count: that with the inode number except, or none. As for AlteredIn, reading changes nothing. An ordinary user cannot
// see it, and is told that it changed. What is not on disk yet is not seen: call SyncFilesystem first.
func IsChanged(dir *os.File, snapshot Subvolume, except uint64) (bool, error) {
	source, err := Info(dir)
	if err != nil {
		return false, err
	}
	if source.ChangedIn <= snapshot.CreatedIn {
		return false, nil
	}
	clockWentBack := source.Changed.Before(snapshot.Created)
	changed, inDirectory := make(map[uint64]bool), map[uint64]bool{except: true}
	from := key{objectID: firstFreeObjectID, kind: inodeItemKey}
	err = searchTree(dir, source.ID, snapshot.CreatedIn+1, from, func(k key, item []byte) {
		switch {
		case k.kind == inodeRefKey && k.offset == except:
			inDirectory[k.objectID] = true
		case k.kind == inodeItemKey && len(item) >= 160: // linux/btrfs_tree.h: struct btrfs_inode_item
			isNewer := clockWentBack || timeAt(le, item, 124).After(snapshot.Created.Add(-tick))
			changed[k.objectID] = isNewer && le.Uint64(item[8:]) > snapshot.CreatedIn
		}
	})
	if errors.Is(err, unix.EPERM) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for changes in %s: %w", dir.Name(), err)
	}
	for inode, is := range changed {
		if is && !inDirectory[inode] {
			return true, nil
		}
	}
	return false, nil
}
