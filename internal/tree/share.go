package tree

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/dedup"
	"btrfs-backup/internal/manifest"
)

// indexFile holds the index of contents, in StateDir.
const indexFile = "index"

// share lets new files take the space of older ones that have the same content, and makes them known for later backups. It
// copies the manifest from a draft, with the entries that are other ones now, and gives how many bytes need no space any more.
// What cannot be shared stays as it is.
func (b *making) share(ctx context.Context, found findings, draft io.Reader, to io.Writer) (shared int64, err error) {
	inUse := func(inode uint64) bool {
		_, ok := slices.BinarySearch(found.inodes, inode)
		return ok
	}
	index, err := dedup.Open(b.dir, StateDir+"/"+indexFile, dedup.Options{Log: b.log, Now: time.Now, InUse: inUse})
	if err != nil {
		b.log.Warn(fmt.Sprintf("%s: contents are not shared: %v", b.pathOf(b.Name), err))
		return 0, rewrite(to, draft, func(e manifest.Entry) (manifest.Entry, error) { return e, nil })
	}
	fresh := newOnce(found.fresh)
	var full error
	err = rewrite(to, draft, func(e manifest.Entry) (manifest.Entry, error) {
		if ctx.Err() != nil {
			return e, context.Cause(ctx)
		}
		if e.Type != manifest.Regular || e.SHA256 == (manifest.Digest{}) || !fresh.take(e.Inode) {
			return e, nil
		}
		e, n, err := index.Share(ctx, btrfs.Incoming(b.Name)+"/"+e.Path, e)
		shared += n
		if err == nil && full == nil {
			full = index.Add(b.Name, e)
		}
		return e, err
	})
	if closeErr := index.Close(); full == nil {
		full = closeErr
	}
	if full != nil {
		b.log.Warn(fmt.Sprintf("%s: not all of its contents are known to later backups: %v", b.pathOf(b.Name), full))
	}
	return shared, err
}

// once tells each of some inodes once.
type once struct {
	inodes []uint64 // sorted
	taken  []bool
}

func newOnce(inodes []uint64) once { return once{inodes, make([]bool, len(inodes))} }

func (o once) take(inode uint64) bool {
	i, ok := slices.BinarySearch(o.inodes, inode)
	if !ok || o.taken[i] {
		return false
	}
	o.taken[i] = true
	return true
}
