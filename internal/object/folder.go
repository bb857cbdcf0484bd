package object

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"btrfs-backup/lock"
)

// Folder is a Bucket that keeps objects as files in a folder of this machine. Nothing leads out of it, whatever links are in it.
// It must be closed.
type Folder struct {
	root *os.Root
	name string
}

var _ Bucket = (*Folder)(nil)

// hidden begins the names of files that are being written.
const hidden = ".incoming-"

// OpenFolder opens a folder that is there. It is called by the name.
func OpenFolder(path, name string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, lock.Cause(err))
	}
	return &Folder{root, name}, nil
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

func (f *Folder) String() string { return f.name }

// List walks through the folder.
func (f *Folder) List(ctx context.Context, prefix string, visit func(Info) error) error {
	return f.walk(ctx, ".", prefix, visit)
}

// walk visits the files below a directory in the order of their keys, in which a directory counts with the slash behind its name.
func (f *Folder) walk(ctx context.Context, dir, prefix string, visit func(Info) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	entries, err := f.entries(dir)
	if err != nil {
		return f.named("listing", dir, err)
	}
	order := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(order(a), order(b)) })
	for _, e := range entries {
		key := path.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			if strings.HasPrefix(key+"/", prefix) || strings.HasPrefix(prefix, key+"/") {
				if err := f.walk(ctx, key, prefix, visit); err != nil {
					return err
				}
			}
		case strings.HasPrefix(key, prefix) && e.Type().IsRegular():
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return f.named("listing", key, err)
			}
			if err := visit(Info{Ref: Ref{Key: key}, Size: info.Size(), Modified: info.ModTime()}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Folder) entries(dir string) ([]fs.DirEntry, error) {
	d, err := f.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

// Get opens the file.
func (f *Folder) Get(_ context.Context, r Ref, offset, length int64) (io.ReadCloser, error) {
	file, err := f.open(r.Key)
	if err != nil {
		return nil, f.named("reading", r.Key, err)
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(f.named("reading", r.Key, err), file.Close())
	}
	if length < 0 {
		return file, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(file, length), file}, nil
}

// open opens a regular file.
func (f *Folder) open(key string) (*os.File, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if info, err := f.root.Lstat(key); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("is no file")
	}
	return f.root.Open(key)
}

// Put writes a file beside its place, and gives it the name when it is on disk.
func (f *Folder) Put(_ context.Context, key string, content []byte, o PutOptions) error {
	return f.named("storing", key, f.put(key, content, o))
}

func (f *Folder) put(key string, content []byte, o PutOptions) (err error) {
	if err := CheckKey(key); err != nil {
		return err
	}
	dir := path.Dir(key)
	if err := f.mkdirAll(dir); err != nil {
		return err
	}
	temporary := path.Join(dir, hidden+rand.Text())
	file, err := f.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	switch {
	case err != nil:
		return errors.Join(err, f.root.Remove(temporary))
	case o.Replace:
		err = f.root.Rename(temporary, key)
	default:
		err = errors.Join(f.root.Link(temporary, key), f.root.Remove(temporary))
	}
	if err != nil {
		return err
	}
	return f.sync(dir)
}

// mkdirAll makes the directories that are missing, on disk too.
func (f *Folder) mkdirAll(dir string) error {
	if _, err := f.root.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.mkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	if err := f.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return f.sync(path.Dir(dir))
}

func (f *Folder) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Stat reads the file, for its SHA-256.
func (f *Folder) Stat(_ context.Context, r Ref) (Info, error) {
	info, err := f.stat(r.Key)
	return info, f.named("reading", r.Key, err)
}

func (f *Folder) stat(key string) (Info, error) {
	file, err := f.open(key)
	if err != nil {
		return Info{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Info{}, err
	}
	sum, err := sumOf(file)
	return Info{Ref: Ref{Key: key}, Size: info.Size(), Modified: info.ModTime(), SHA256: sum}, err
}

// Delete removes files, and directories that are empty then but for what was not written to its end.
func (f *Folder) Delete(_ context.Context, keys []string) error {
	var errs []error
	dirs := make(map[string]bool)
	for _, key := range keys {
		err := CheckKey(key)
		if err == nil {
			if err = f.root.Remove(key); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
		errs = append(errs, f.named("deleting", key, err))
		dirs[path.Dir(key)] = true
	}
	for dir := range dirs {
		if err := f.sync(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, f.named("deleting in", dir, err))
		}
		f.tidy(dir)
	}
	return errors.Join(errs...)
}

// tidy removes a directory, and those above it, as far as there is nothing in them.
func (f *Folder) tidy(dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		entries, err := f.entries(dir)
		if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), hidden) }) {
			return
		}
		for _, e := range entries {
			_ = f.root.Remove(path.Join(dir, e.Name()))
		}
		if f.root.Remove(dir) != nil {
			return
		}
	}
}

func (f *Folder) named(doing, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s of %s: %w", doing, key, f, lock.Cause(err))
}
