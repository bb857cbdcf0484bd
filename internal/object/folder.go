package object

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
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

// FolderAt is OpenFolder for a directory that is open, wherever its path leads to by now. The directory may be closed afterwards.
func FolderAt(dir *os.File, name string) (*Folder, error) {
	f, err := OpenFolder(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), name)
	runtime.KeepAlive(dir)
	return f, err
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

func (f *Folder) String() string { return f.name }

// List walks through the folder.
func (f *Folder) List(ctx context.Context, prefix string, visit func(Info) error) error {
	return f.ListAfter(ctx, prefix, "", visit)
}

// ListAfter is List without the keys up to one that was visited before, and without looking where only these are.
func (f *Folder) ListAfter(ctx context.Context, prefix, after string, visit func(Info) error) error {
	return f.walk(ctx, ".", prefix, after, visit)
}

// walk visits the files below a directory in the order of their keys, in which a directory counts with the slash behind its name.
func (f *Folder) walk(ctx context.Context, dir, prefix, after string, visit func(Info) error) error {
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
			wanted := strings.HasPrefix(key+"/", prefix) || strings.HasPrefix(prefix, key+"/")
			if wanted && (key+"/" > after || strings.HasPrefix(after, key+"/")) {
				if err := f.walk(ctx, key, prefix, after, visit); err != nil {
					return err
				}
			}
		case strings.HasPrefix(key, prefix) && key > after && e.Type().IsRegular():
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

// Empty tells that there is nothing in it but what is hidden.
func (f *Folder) Empty() (bool, error) {
	entries, err := f.entries(".")
	visible := func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".") }
	return !slices.ContainsFunc(entries, visible), f.named("listing", ".", err)
}

// GetFile reads an object from an offset on. It also tells its size, and which file it is: one that replaces it is another.
func (f *Folder) GetFile(key string, offset int64) (body io.ReadCloser, size int64, which string, err error) {
	file, err := f.open(key)
	if err != nil {
		return nil, 0, "", f.named("reading", key, err)
	}
	info, err := file.Stat()
	if err == nil {
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, 0, "", errors.Join(f.named("reading", key, err), file.Close())
	}
	inode := info.Sys().(*syscall.Stat_t).Ino
	return file, info.Size(), fmt.Sprintf("%d %d %d", inode, info.ModTime().UnixNano(), info.Size()), nil
}

// Get opens the file.
func (f *Folder) Get(_ context.Context, r Ref, offset, length int64) (io.ReadCloser, error) {
	file, _, _, err := f.GetFile(r.Key, offset)
	if err != nil || length < 0 {
		return file, err
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

func (f *Folder) put(key string, content []byte, o PutOptions) error {
	u, err := f.begin(key, int64(len(content)), o)
	if err != nil {
		return err
	}
	if _, err := u.file.Write(content); err != nil {
		return errors.Join(err, u.drop())
	}
	return u.commit()
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
			if !f.dropUnheld(path.Join(dir, e.Name())) {
				return
			}
		}
		if f.root.Remove(dir) != nil {
			return
		}
	}
}

// dropUnheld removes a file that nobody writes any more.
func (f *Folder) dropUnheld(temporary string) bool {
	file, err := f.root.Open(temporary)
	if err != nil {
		return false
	}
	defer file.Close()
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && f.root.Remove(temporary) == nil
}

func (f *Folder) named(doing, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s of %s: %w", doing, key, f, lock.Cause(err))
}
