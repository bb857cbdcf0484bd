package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/dedup"
	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// Index makes the index of contents anew. It knows the files of the backups by their manifests, without reading them, and those
// of directories that somebody else put into the folder, which are read. Hidden directories, and on btrfs writable subvolumes,
// are left out. What cannot be read is left out with a warning. After an error the old index is what it was.
func (f *Folder) Index(ctx context.Context, o IndexOptions) (Indexed, error) {
	indexed, err := f.index(ctx, oneAtATime(o.Progress))
	if err != nil {
		return Indexed{}, fmt.Errorf("indexing %s: %w", f.dir.Name(), err)
	}
	return indexed, nil
}

func (f *Folder) index(ctx context.Context, progress func(bytes int64)) (Indexed, error) {
	list, err := f.list(ctx)
	if err != nil {
		return Indexed{}, err
	}
	if err := f.makeState(); err != nil {
		return Indexed{}, err
	}
	const temporary = indexFile + temporaryEnd
	if err := f.removeState(temporary); err != nil {
		return Indexed{}, err
	}
	contents, err := dedup.Open(f.dir, StateDir+"/"+temporary, dedup.Options{Log: f.log})
	if err != nil {
		return Indexed{}, err
	}
	i := indexing{
		Folder: f, contents: contents, btrfs: list.Btrfs,
		seen: make(map[version]struct{}), buffer: make([]byte, readSize),
	}
	i.progress = func(bytes int64) {
		i.Read += bytes
		progress(bytes)
	}
	if err = errors.Join(i.all(ctx, list), contents.Close()); err == nil {
		err = f.replaceState(indexFile)
	}
	if err != nil {
		return Indexed{}, errors.Join(err, f.removeState(temporary))
	}
	return i.Indexed, nil
}

// An indexing is the way to a new index.
type indexing struct {
	*Folder
	Indexed
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

// all indexes the folder, newest backups first: those stay longest. An error is one of the index or the end of the context.
func (i *indexing) all(ctx context.Context, list Listing) error {
	for _, backup := range slices.Backward(list.Backups) {
		if err := i.each(ctx, backup.Name, i.backup); err != nil {
			return err
		}
	}
	for _, name := range list.Others {
		if strings.HasPrefix(name, ".") {
			continue
		}
		if err := i.each(ctx, name, i.foreign); err != nil {
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
	fd, err := openNear(i.dir, name, unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) { // it is nobody's backup
		return nil
	}
	if err == nil {
		root := os.NewFile(uintptr(fd), i.pathOf(name))
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
		i.log.Warn(fmt.Sprintf("not all of %s is in the index: %v", i.pathOf(name), err))
	}
	return nil
}

// backup indexes a backup by its manifest.
func (i *indexing) backup(ctx context.Context, name string, root *os.File) error {
	i.Trees++
	file, err := i.openState(ManifestFile(name))
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

// listed adds a file of a manifest, if it is still there and was not changed. Nobody knows when it was last read.
func (i *indexing) listed(backup string, root *os.File, e manifest.Entry) error {
	if e.Size == 0 || e.SHA256 == (manifest.Digest{}) || i.contents.Knows(e) {
		return nil
	}
	st, err := lstatAt(root, e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now := manifest.Describe(e.Path, &st)
	if now.Type != e.Type || now.Size != e.Size || now.ModTime != e.ModTime {
		return nil
	}
	return i.added(i.contents.AddUnread(backup, e))
}

func (i *indexing) added(err error) error {
	if err != nil {
		return notIndexedError{err}
	}
	i.Contents++
	return nil
}

// foreign indexes a tree that somebody else made by reading it.
func (i *indexing) foreign(ctx context.Context, name string, root *os.File) error {
	if i.btrfs && btrfs.CheckSubvolume(root) == nil {
		if info, err := btrfs.Info(root); err != nil || !info.ReadOnly {
			return err
		}
	}
	i.Trees++
	w := walk{
		ctx: ctx,
		visit: func(in *openDir, base string, e manifest.Entry) error {
			if e.Type != manifest.Regular {
				return nil
			}
			i.Files++
			if e.Size == 0 || i.met(e) {
				return nil
			}
			var err error
			if e.SHA256, err = hashFile(ctx, in, base, e, i.buffer, func(content []byte) { i.progress(int64(len(content))) }); err != nil {
				return i.unreadable(ctx, name+"/"+e.Path, err)
			}
			if i.contents.Knows(e) {
				return nil
			}
			return i.added(i.contents.Add(name, e))
		},
		unread: func(path string, err error) error { return i.unreadable(ctx, name+"/"+path, err) },
	}
	return w.run(root)
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
	i.log.Warn(fmt.Sprintf("%s is not in the index: %v", i.pathOf(path), err))
	return nil
}
