// Package volume makes btrfs subvolumes on this machine the sources and destinations of the engine.
//
// Folders are opened once and worked on by their file descriptors. What the kernel or the btrfs program refuses is
// translated into errors that say what to do.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/lock"
	"btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// Options are common to sources and destinations.
type Options struct {
	Log        *slog.Logger
	Verbose    bool // let btrfs send and receive tell what they do
	ConvertRW  bool // make subvolumes writable before deleting them
	Sync       bool // wait until deleted subvolumes are gone from the disk
	SkipChecks bool // do not check in advance what directories are
}

// folder is an engine.Folder.
type folder struct {
	path string // absolute and clean; symbolic links are kept, since it stands in the ledger
	dir  *os.File
	at   engine.Place
	Options
}

// String quotes a path that JSON, and so the ledger, could not hold.
func (f *folder) String() string {
	if !utf8.ValidString(f.path) {
		return strconv.Quote(f.path)
	}
	return f.path
}

func (f *folder) Place() engine.Place { return f.at }

func (f *folder) local() transport.Local {
	level := slog.LevelDebug
	if f.Verbose {
		level = slog.LevelInfo
	}
	return transport.Local{Log: f.Log, Level: level}
}

// open opens the folder, which must pass check. If it is missing, the nearest directory above it must pass; then it is
// created on request, else the error is fs.ErrNotExist.
func (f *folder) open(create bool, check func(*os.File) error) error {
	dir, err := openDir(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if above := f.checkAbove(check); above != nil {
			return above
		}
		if create {
			dir, err = f.create()
		}
	}
	if err != nil {
		return err
	}
	if err := check(dir); err != nil {
		dir.Close()
		return err
	}
	f.dir = dir
	f.at, err = place(dir)
	return err
}

func (f *folder) checkAbove(check func(*os.File) error) error {
	for above := filepath.Dir(f.path); ; above = filepath.Dir(above) {
		dir, err := openDir(above)
		if errors.Is(err, fs.ErrNotExist) && above != "/" {
			continue
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		return check(dir)
	}
}

func (f *folder) create() (*os.File, error) {
	f.Log.Info("creating folder " + f.path)
	if err := os.MkdirAll(f.path, 0o755); err != nil {
		return nil, withHint(err, needToWrite)
	}
	return openDir(f.path)
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

func place(dir *os.File) (engine.Place, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return engine.Place{}, &os.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	info, err := btrfs.Info(dir)
	if err != nil {
		return engine.Place{}, err
	}
	id, err := btrfs.FilesystemID(dir)
	return engine.Place{Filesystem: id, Subvolume: info.ID, Inode: st.Ino}, err
}

func (f *folder) Lock(ctx context.Context, waiting func(*lock.HeldError)) (*lock.Lock, error) {
	return lock.Acquire(ctx, f.dir, waiting)
}

func (f *folder) List(context.Context) (btrfs.Listing, error) { return btrfs.List(f.dir) }

func (f *folder) Delete(ctx context.Context, names []string) (deleted []string, err error) {
	var failures []error
	for _, name := range names {
		if ctx.Err() != nil {
			failures = append(failures, context.Cause(ctx))
			break
		}
		if err := f.deleteOne(name); err != nil {
			failures = append(failures, err)
			continue
		}
		f.Log.Debug("deleted " + filepath.Join(f.path, name))
		deleted = append(deleted, name)
	}
	if f.Sync && len(deleted) > 0 {
		_, err := f.local().Output(ctx, program, "subvolume", "sync", f.path)
		failures = append(failures, err)
	}
	return deleted, errors.Join(failures...)
}

func (f *folder) deleteOne(name string) error {
	if f.ConvertRW {
		if err := btrfs.SetReadOnly(f.dir, name, false); err != nil {
			return withHint(err, needToDelete)
		}
	}
	err := btrfs.Delete(f.dir, name)
	if err != nil && f.ConvertRW {
		err = errors.Join(err, btrfs.SetReadOnly(f.dir, name, true))
	}
	return withHint(err, needToDelete)
}

func (f *folder) Ledger(_ context.Context, ours func(string) bool) (*lock.Ledger, error) {
	path := filepath.Join(f.path, lock.LedgerFile)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := lock.ParseLedger(content, ours)
	if err != nil {
		return nil, engine.Hint(fmt.Errorf("reading %s: %w", path, err),
			"repair the file or move it away; until then nothing that it may protect is deleted")
	}
	return l, nil
}
