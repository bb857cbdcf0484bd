package index

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/dedup"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// A Backup is one that is being made.
type Backup struct {
	Name   string   // that it will have
	Hidden string   // that it has meanwhile
	Inodes []uint64 // of all its regular files, sorted
	Fresh  []uint64 // of those that no other backup has, sorted
}

// Share lets new files take the space of older ones that have the same content, and makes them known for later backups. It
// copies the manifest from a draft, with the entries that are other ones now, and gives how many bytes need no space any more.
// What cannot be shared stays as it is.
func (x Index) Share(ctx context.Context, b Backup, draft io.Reader, to io.Writer) (shared int64, err error) {
	inUse := func(inode uint64) bool {
		_, ok := slices.BinarySearch(b.Inodes, inode)
		return ok
	}
	contents, err := dedup.Open(x.Folder, state.Dir+"/"+file, dedup.Options{Log: x.Log, InUse: inUse})
	if err != nil {
		x.Log.Warn(fmt.Sprintf("%s: contents are not shared: %v", x.pathOf(b.Name), err))
		return 0, rewrite(to, draft, func(e manifest.Entry) (manifest.Entry, error) { return e, nil })
	}
	fresh := newOnce(b.Fresh)
	var full error
	err = rewrite(to, draft, func(e manifest.Entry) (manifest.Entry, error) {
		if ctx.Err() != nil {
			return e, context.Cause(ctx)
		}
		if e.Type != manifest.Regular || e.SHA256 == (manifest.Digest{}) || !fresh.take(e.Inode) {
			return e, nil
		}
		e, n, err := contents.Share(ctx, b.Hidden+"/"+e.Path, e)
		shared += n
		if err == nil && full == nil {
			full = contents.Add(b.Name, e)
		}
		return e, err
	})
	if closeErr := contents.Close(); full == nil {
		full = closeErr
	}
	if full != nil {
		x.Log.Warn(fmt.Sprintf("%s: later backups cannot share all of its contents: %v", x.pathOf(b.Name), full))
	}
	return shared, err
}

// rewrite copies a manifest, each entry as change gives it back.
func rewrite(to io.Writer, from io.Reader, change func(manifest.Entry) (manifest.Entry, error)) error {
	r, err := manifest.NewReader(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := manifest.NewWriter(to)
	if err != nil {
		return err
	}
	for {
		e, err := r.Next()
		if err == io.EOF {
			return w.Close()
		}
		if err == nil {
			e, err = change(e)
		}
		if err == nil {
			err = w.Write(e)
		}
		if err != nil {
			return err
		}
	}
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
