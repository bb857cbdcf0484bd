// Package index keeps the index of the contents in a folder of backups: it lets the files of a new backup take the space of equal
// ones (see package dedup), and makes the index anew of all that is in the folder, whoever made it. It changes no backup.
package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/dedup"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// file is the state file that holds the index.
const file = "index"

// An Index is that of an open folder.
type Index struct {
	Folder *os.File
	Log    *slog.Logger
}

func (x Index) pathOf(name string) string { return filepath.Join(x.Folder.Name(), name) }

// Trees are what is in a folder.
type Trees struct {
	Backups []string // with a manifest, those first whose files stay longest
	Others  []string // whatever else there is
	Btrfs   bool     // the folder lies on btrfs
}

// Indexed tells what the index holds now.
type Indexed struct {
	Trees    int64 // backups, and trees that somebody else made
	Files    int64
	Contents int64 // different ones
	Read     int64 // bytes that had to be read
}

// Rebuild makes the index anew. It knows the files of the backups by their manifests, without reading them, and those of other
// directories, which are read. Hidden directories, and on btrfs writable subvolumes, are left out. What cannot be read is left out
// with a warning. After an error the old index is what it was. progress is told of bytes as they are read.
func (x Index) Rebuild(ctx context.Context, trees Trees, progress func(bytes int64)) (Indexed, error) {
	files := state.In(x.Folder)
	if err := files.Make(); err != nil {
		return Indexed{}, err
	}
	const temporary = file + state.TemporaryEnd
	if err := files.Remove(temporary); err != nil {
		return Indexed{}, err
	}
	contents, err := dedup.Open(x.Folder, state.Dir+"/"+temporary, dedup.Options{Log: x.Log})
	if err != nil {
		return Indexed{}, err
	}
	i := indexing{
		Index: x, state: files, contents: contents, btrfs: trees.Btrfs,
		seen: make(map[version]struct{}), buffer: make([]byte, walk.ReadSize),
	}
	i.progress = func(bytes int64) {
		i.Read += bytes
		progress(bytes)
	}
	if err = errors.Join(i.all(ctx, trees), contents.Close()); err == nil {
		err = files.Replace(file)
	}
	if err != nil {
		return Indexed{}, errors.Join(err, files.Remove(temporary))
	}
	return i.Indexed, nil
}

// An indexing is the way to a new index.
type indexing struct {
	Index
	Indexed
	state    state.Files
	contents *dedup.Index
	btrfs    bool
	progress func(bytes int64)
	seen     map[version]struct{} // of files that may be met again
	buffer   []byte
}

// A version of a file is the same under all its names, and in all snapshots of its subvolume.
type version struct {
	inode           uint64
	size            int64
	modTime, change manifest.Time
}

// all indexes the folder. An error is one of the index or the end of the context.
func (i *indexing) all(ctx context.Context, trees Trees) error {
	for _, name := range trees.Backups {
		if err := i.each(ctx, name, i.backup); err != nil {
			return err
		}
	}
	for _, name := range trees.Others {
		if strings.HasPrefix(name, ".") {
			continue
		}
		if err := i.each(ctx, name, i.other); err != nil {
			return err
		}
	}
	return nil
}

// A notIndexedError tells that the index can take no more.
type notIndexedError struct{ error }

func (e notIndexedError) Unwrap() error { return e.error }

// each indexes a directory of the folder. What fails in one is no reason to leave out the others.
func (i *indexing) each(ctx context.Context, name string, index func(context.Context, string, *os.File) error) error {
	root, err := walk.Open(i.Folder, name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) { // it is nobody's backup
		return nil
	}
	if err == nil {
		defer root.Close()
		err = index(ctx, name, root)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if full := (notIndexedError{}); errors.As(err, &full) {
		return err
	}
	if err != nil {
		i.Log.Warn(fmt.Sprintf("not all of %s is in the index: %v", i.pathOf(name), err))
	}
	return nil
}

// backup indexes a backup by its manifest.
func (i *indexing) backup(ctx context.Context, name string, root *os.File) error {
	i.Trees++
	file, err := i.state.Open(state.ManifestFile(name))
	if err != nil {
		return err
	}
	defer file.Close()
	entries, err := manifest.NewReader(file)
	if err != nil {
		return err
	}
	defer entries.Close()
	for {
		e, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil && e.Type == manifest.Regular {
			i.Files++
			err = i.listed(name, root, e)
		}
		if err != nil {
			return err
		}
	}
}

// listed adds a file of a manifest, if it is still there and was not changed.
func (i *indexing) listed(backup string, root *os.File, e manifest.Entry) error {
	if e.Size == 0 || e.SHA256 == (manifest.Digest{}) || i.contents.Knows(e) {
		return nil
	}
	st, err := walk.Lstat(root, e.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENAMETOOLONG) {
		return nil
	}
	if err != nil {
		return err
	}
	now := manifest.Describe(e.Path, &st)
	if now.Type != e.Type || now.Size != e.Size || now.ModTime != e.ModTime {
		return nil
	}
	return i.added(i.contents.Add(backup, e))
}

func (i *indexing) added(err error) error {
	if err != nil {
		return notIndexedError{err}
	}
	i.Contents++
	return nil
}

// other indexes a tree that somebody else made by reading it.
func (i *indexing) other(ctx context.Context, name string, root *os.File) error {
	if i.btrfs && btrfs.CheckSubvolume(root) == nil {
		if info, err := btrfs.Info(root); err != nil || !info.ReadOnly {
			return err
		}
	}
	i.Trees++
	return walk.Tree(ctx, root, walk.Visitor{
		Visit: func(f walk.File) error {
			if f.Type != manifest.Regular {
				return nil
			}
			i.Files++
			if f.Size == 0 || i.met(f.Entry) {
				return nil
			}
			var err error
			f.SHA256, err = f.Hash(ctx, i.buffer, manifest.Watcher{Read: func(_ int64, content []byte) { i.progress(int64(len(content))) }})
			if err != nil {
				return i.unreadable(ctx, name+"/"+f.Path, err)
			}
			if i.contents.Knows(f.Entry) {
				return nil
			}
			return i.added(i.contents.Add(name, f.Entry))
		},
		Closed: func(path string, err error) error {
			if err == unix.EXDEV {
				return nil
			}
			return i.unreadable(ctx, name+"/"+path, err)
		},
	})
}

// met tells that the file was read before, under another name.
func (i *indexing) met(e manifest.Entry) bool {
	if e.Links < 2 && !i.btrfs {
		return false
	}
	v := version{e.Inode, e.Size, e.ModTime, e.ChangeTime}
	_, met := i.seen[v]
	i.seen[v] = struct{}{}
	return met
}

// unreadable passes over what cannot be read.
func (i *indexing) unreadable(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	i.Log.Warn(fmt.Sprintf("%s is not in the index: %v", i.pathOf(path), err))
	return nil
}
