// Package dedup finds files of equal content in a folder, so that a new one takes no space of its own.
//
// The Index knows contents by size and SHA-256. It is a hint, and is never trusted: before a file is linked to, its size and
// time must be those on record, and its content is read again. Where the filesystem can share extents, the kernel compares the
// contents itself. A link is made only where nothing at all tells the two files apart, and never between two files of the backup
// that is being made.
//
// Nothing here can make a backup worse: what fails ends in the copy that is there already, and an index that cannot be used or
// written costs space alone.
package dedup

import (
	"context"
	"log/slog"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// An Index knows the contents in a folder. It is for one goroutine at a time.
type Index struct {
	Options
	folder   *os.File
	contents *store
	sharing  sharing
	inline   int64 // size up to which a content takes no extents

	backup  string              // that is being made
	root    string              // where it stands meanwhile
	linked  map[uint64]struct{} // inodes that became part of the backup by a link
	backups []string            // those on record, sorted; nil until somebody asks
}

// Options are how an index is used.
type Options struct {
	Log *slog.Logger
	// InUse tells that the inode is part of the backup that is being made: a second link to it would make two files of the
	// source one.
	InUse func(inode uint64) bool
}

// sharing is by what means files of a folder can share space.
type sharing int

const (
	undecided sharing = iota // extents, until the kernel says that the filesystem cannot
	byExtents
	byLinks
)

// maxInline is the size up to which btrfs, unless told otherwise, keeps a content in the tree that describes the file.
const maxInline = 2048 // linux/fs/btrfs/fs.h: BTRFS_DEFAULT_MAX_INLINE

// Open opens the index in a file of the folder, and makes it if it is missing or damaged. It borrows folder.
func Open(folder *os.File, file string, o Options) (*Index, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	contents, err := openStore(folder, file, o.Log)
	if err != nil {
		return nil, err
	}
	x := &Index{Options: o, folder: folder, contents: contents, linked: make(map[uint64]struct{})}
	if btrfs.CheckFilesystem(folder) == nil {
		x.sharing, x.inline = byExtents, maxInline
	}
	return x, nil
}

// Share lets a new file take the space of one that is known, if there is one, and leaves it as it is in every other case. The
// file is described by e and stands in the folder at path, slash-separated. shared is how many bytes need no space any more.
// The inode number of a file that became a link is that in the entry that it returns. Add it then, whether it shares space or
// not: the known file may be of no use for the next. An error is the end of the context.
func (x *Index) Share(ctx context.Context, path string, e manifest.Entry) (manifest.Entry, int64, error) {
	if !indexed(e) {
		return e, 0, nil
	}
	x.root = strings.TrimSuffix(path, "/"+e.Path)
	known, ok := x.contents.get(keyOf(e))
	if !ok {
		return e, 0, nil
	}
	file, err := x.openNew(path, e)
	if err != nil {
		x.Log.Debug("not shared: " + err.Error())
		return e, 0, nil
	}
	defer file.Close()
	from, err := x.openKnown(known, e)
	if err != nil {
		x.Log.Debug("not shared: " + err.Error())
		return e, 0, nil
	}
	defer from.Close()
	shared, err := x.share(ctx, from, file, e)
	if ctx.Err() != nil {
		return e, shared, context.Cause(ctx)
	}
	if err != nil {
		x.Log.Debug("not shared: " + err.Error())
	}
	if shared == 0 {
		return e, 0, nil
	}
	e.Inode, e.Links, e.ChangeTime = file.stat.Ino, uint64(file.stat.Nlink), manifest.TimeOf(file.stat.Ctim)
	return e, shared, nil
}

// Add makes a file known, which stands, or will stand, under the backup's name. An error means that the index can take no more,
// which costs nothing but space.
func (x *Index) Add(backup string, e manifest.Entry) error {
	x.backup = backup
	if !indexed(e) {
		return nil
	}
	return x.contents.put(keyOf(e), place{Backup: backup, Path: e.Path, ModTime: e.ModTime})
}

// Knows tells that there is a file of that content in the index, if it can be relied on.
func (x *Index) Knows(e manifest.Entry) bool {
	_, ok := x.contents.get(keyOf(e))
	return ok
}

// Close puts what was added on disk. An error means that it is lost, which costs nothing but space.
func (x *Index) Close() error { return x.contents.close() }

func indexed(e manifest.Entry) bool {
	return e.Type == manifest.Regular && e.Size > 0 && e.SHA256 != manifest.Digest{}
}
