package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// errNotBackup is the refusal to work on what this package did not make.
var errNotBackup = errors.New("it is not a backup that was made here")

// Delete deletes what it can of the named backups, and gives the names of those that are gone and every failure. What is not a
// backup by the rules of List is refused.
func (f *Folder) Delete(ctx context.Context, names []string) (deleted []string, err error) {
	var failures []error
	for _, name := range names {
		if ctx.Err() != nil {
			failures = append(failures, context.Cause(ctx))
			break
		}
		if err := f.deleteOne(ctx, name); err != nil {
			failures = append(failures, fmt.Errorf("deleting %s: %w", f.pathOf(name), err))
			continue
		}
		f.log.Debug("deleted " + f.pathOf(name))
		deleted = append(deleted, name)
	}
	return deleted, errors.Join(failures...)
}

// deleteOne lets a backup leave its name before anything is taken from it.
func (f *Folder) deleteOne(ctx context.Context, name string) error {
	if _, err := f.backup(name); err != nil {
		return err
	}
	hidden := Deleting(name)
	if err := f.checkHiddenFree(hidden); err != nil {
		return err
	}
	if err := f.noteUnfinished(hidden, UnfinishedEntry{}); err != nil {
		return err
	}
	if err := f.rename(name, hidden); err != nil {
		return errors.Join(err, f.dropUnfinished(hidden))
	}
	err := f.finishDeleting(ctx, name)
	if err != nil {
		err = errors.Join(err, f.takeBack(name))
	}
	return err
}

// takeBack undoes the beginning of a deletion that failed: a subvolume is still complete.
func (f *Folder) takeBack(name string) error {
	hidden := Deleting(name)
	isSubvolume, err := f.isSubvolume(hidden)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !isSubvolume {
		return nil
	}
	if err != nil {
		return err
	}
	if err := btrfs.SetReadOnly(f.dir, hidden, true); err != nil {
		return err
	}
	if err := f.rename(hidden, name); err != nil {
		return err
	}
	return f.dropUnfinished(hidden)
}

// finishDeleting goes on with a deletion: what has left its name goes, and then what is known about it.
func (f *Folder) finishDeleting(ctx context.Context, name string) error {
	hidden := Deleting(name)
	if err := f.removeHidden(ctx, hidden); err != nil {
		return err
	}
	switch _, err := lstatAt(f.dir, name); {
	case errors.Is(err, fs.ErrNotExist):
		if err := f.removeRecord(name); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	return f.dropUnfinished(hidden)
}

// discard removes what was copied for a backup. It is no error if there is nothing.
func (f *Folder) discard(name string) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	hidden := btrfs.Incoming(name)
	if _, ours := list[hidden]; !ours {
		return nil
	}
	err = f.removeHidden(context.Background(), hidden)
	if err == nil {
		err = f.removeRecord(name)
	}
	if err == nil {
		err = f.dropUnfinished(hidden)
	}
	if err != nil {
		return fmt.Errorf("discarding %s: %w", f.pathOf(hidden), err)
	}
	return nil
}

// removeHidden removes a directory with a hidden name, for good: it is gone from disk, too. A missing one is no error.
func (f *Folder) removeHidden(ctx context.Context, hidden string) error {
	st, err := lstatAt(f.dir, hidden)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &os.PathError{Op: "remove", Path: f.pathOf(hidden), Err: unix.ENOTDIR}
	}
	isSubvolume, err := f.isSubvolume(hidden)
	switch {
	case err != nil:
	case isSubvolume:
		err = f.deleteSubvolume(hidden)
	default:
		err = removeTree(ctx, f.dir, hidden)
	}
	if err != nil {
		return err
	}
	return f.dir.Sync()
}

// deleteSubvolume deletes a subvolume. An ordinary user can delete only what can be written to.
func (f *Folder) deleteSubvolume(name string) error {
	if os.Geteuid() != 0 {
		if err := btrfs.SetReadOnly(f.dir, name, false); err != nil {
			return err
		}
	}
	return btrfs.Delete(f.dir, name)
}

// isSubvolume tells whether an entry is a subvolume rather than a directory.
func (f *Folder) isSubvolume(name string) (bool, error) {
	if onBtrfs, err := f.onBtrfs(); err != nil || !onBtrfs {
		return false, err
	}
	dir, err := btrfs.OpenDirAt(f.dir, name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	err = btrfs.CheckSubvolume(dir)
	if errors.Is(err, btrfs.ErrNotSubvolume) {
		return false, nil
	}
	return err == nil, err
}
