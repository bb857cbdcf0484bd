package tree

import (
	"context"
	"fmt"
	"slices"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/dedup"
	"btrfs-backup/internal/manifest"
)

// indexFile holds the index of contents, in StateDir.
const indexFile = "index"

// share lets new files take the space of older ones that have the same content, and makes them known for later backups. It
// gives the entries that are other ones now, in order, and how many bytes need no space any more. What cannot be shared stays
// as it is: an error is the end of the context.
func (b *making) share(ctx context.Context, found findings) (changed []manifest.Entry, shared int64, err error) {
	inUse := func(inode uint64) bool {
		_, ok := slices.BinarySearch(found.inodes, inode)
		return ok
	}
	index, err := dedup.Open(b.dir, StateDir+"/"+indexFile, dedup.Options{Log: b.log, Now: time.Now, InUse: inUse})
	if err != nil {
		b.log.Warn(fmt.Sprintf("%s: contents are not shared: %v", b.pathOf(b.Name), err))
		return nil, 0, nil
	}
	var full error
	for _, e := range found.fresh {
		if err = context.Cause(ctx); err != nil {
			break
		}
		now, n, shareErr := index.Share(ctx, btrfs.Incoming(b.Name)+"/"+e.Path, e)
		if err = shareErr; err != nil {
			break
		}
		shared += n
		if now != e {
			changed = append(changed, now)
		}
		if full == nil {
			full = index.Add(b.Name, now)
		}
	}
	if closeErr := index.Close(); full == nil {
		full = closeErr
	}
	if full != nil {
		b.log.Warn(fmt.Sprintf("%s: not all of its contents are known to later backups: %v", b.pathOf(b.Name), full))
	}
	return changed, shared, err
}
