package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// A Folder is an open folder of backups.
type Folder struct {
	dir *os.File
	log *slog.Logger
}

// New gives the folder that dir is open on. It borrows dir.
func New(dir *os.File, log *slog.Logger) *Folder { return &Folder{dir, log} }

// pathOf names an entry of the folder, by the path that the folder was opened by.
func (f *Folder) pathOf(name string) string { return filepath.Join(f.dir.Name(), name) }

// onBtrfs tells whether backups are subvolumes here.
func (f *Folder) onBtrfs() (bool, error) {
	err := btrfs.CheckFilesystem(f.dir)
	if errors.Is(err, btrfs.ErrNotBtrfs) {
		return false, nil
	}
	return err == nil, err
}

// checkFree refuses a name that the folder has already: that is fs.ErrExist.
func (f *Folder) checkFree(name string) error {
	_, err := lstatAt(f.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s: %w", f.pathOf(name), fs.ErrExist)
	}
	return err
}

// checkHiddenFree refuses a hidden name that something else uses.
func (f *Folder) checkHiddenFree(hidden string) error {
	err := f.checkFree(hidden)
	if errors.Is(err, fs.ErrExist) {
		return hint.New(err, "something else made it: remove it if it is of no use, or move it away")
	}
	return err
}

// rename gives an entry a name that is free, on disk too. A name that is taken is fs.ErrExist.
func (f *Folder) rename(from, to string) error {
	fd := int(f.dir.Fd())
	err := unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // NFS and others cannot refuse to replace; directories replace empty ones only
		if err := f.checkFree(to); err != nil {
			return err
		}
		err = unix.Renameat(fd, from, fd, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: f.pathOf(from), New: f.pathOf(to), Err: err}
	}
	return f.dir.Sync()
}

// Mark gives the folder its identity, if it has none yet.
func (f *Folder) Mark(context.Context) (id string, err error) {
	if id, err = f.mark(); err != nil {
		return "", fmt.Errorf("marking %s: %w", f.dir.Name(), err)
	}
	return id, nil
}

// Keep puts what was copied into the directory that Begin gave on disk, for a later Begin to go on with. It is no error if
// there is none.
func (f *Folder) Keep(_ context.Context, name string) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	hidden := btrfs.Incoming(name)
	entry, ours := list[hidden]
	boot, err := bootID()
	if err != nil || !ours || entry.Doubtful(boot) { // what may have been lost before is not found by a sync
		return err
	}
	if err := btrfs.SyncFilesystem(f.dir); err != nil {
		return fmt.Errorf("keeping %s: %w", f.pathOf(hidden), err)
	}
	entry.Synced = true
	return f.noteUnfinished(hidden, entry)
}
