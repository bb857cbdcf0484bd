package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// errNotBackup is the refusal to work on directories without our record.
var errNotBackup = errors.New("not a backup that this program made")

const deletingEnd = ".deleting"

// deletingName is the hidden name of a backup that is being deleted.
func deletingName(name string) string { return "." + name + deletingEnd }

// deletingOf gives the name that a backup had before it was deleted, and false for any other name.
func deletingOf(hidden string) (name string, ok bool) {
	name, ok = strings.CutPrefix(hidden, ".")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, deletingEnd)
}

// Delete deletes what it can of the named backups, and gives the names of those that are gone and every failure. What is not a
// backup by the rules of List, or one of its Deleting, is refused.
func (f *Folder) Delete(ctx context.Context, names []string) (deleted []string, err error) {
	var failures []error
	for _, name := range names {
		if ctx.Err() != nil {
			failures = append(failures, context.Cause(ctx))
			break
		}
		backup, begun := deletingOf(name)
		do := f.goOnDeleting
		if !begun {
			backup, do = name, f.deleteOne
		}
		if err := do(ctx, backup); err != nil {
			failures = append(failures, fmt.Errorf("deleting %s: %w", f.pathOf(backup), err))
			continue
		}
		f.log.Debug("deleted " + f.pathOf(name))
		deleted = append(deleted, name)
	}
	return deleted, errors.Join(failures...)
}

// goOnDeleting goes on with the deletion of a backup that began.
func (f *Folder) goOnDeleting(ctx context.Context, name string) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	if _, ours := list[deletingName(name)]; !ours {
		return errNotBackup
	}
	return f.finishDeleting(ctx, name)
}

// deleteOne lets a backup leave its name before anything is taken from it.
func (f *Folder) deleteOne(ctx context.Context, name string) error {
	record, err := f.backup(name)
	if err != nil {
		return err
	}
	hidden := deletingName(name)
	if err := f.checkHiddenFree(hidden); err != nil {
		return err
	}
	if err := f.noteUnfinished(hidden, unfinishedEntry{}); err != nil {
		return err
	}
	if err = f.rename(name, hidden); err != nil {
		err = errors.Join(walk.Explain(err, f.dir, name), f.dropUnfinished(hidden))
	} else if err = f.finishDeleting(ctx, name); err != nil {
		err = errors.Join(err, f.takeBack(name))
	}
	switch {
	case hint.Of(err) != "":
		return err
	case record.Subvolume != "":
		return walk.UnpinSubvolume(err, f.pathOf(name))
	}
	return walk.Unpin(err, f.pathOf(name))
}

// takeBack undoes the beginning of a deletion that failed: a subvolume is still complete.
func (f *Folder) takeBack(name string) error {
	hidden := deletingName(name)
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

// finishDeleting goes on with a deletion: it removes the backup under its hidden name, and then the record.
func (f *Folder) finishDeleting(ctx context.Context, name string) error {
	hidden := deletingName(name)
	if err := f.removeHidden(ctx, hidden); err != nil {
		return err
	}
	switch _, err := walk.Lstat(f.dir, name); {
	case errors.Is(err, fs.ErrNotExist):
		if err := f.removeRecord(name); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	return f.dropUnfinished(hidden)
}

// removeHidden removes a directory with a hidden name, for good: it is gone from disk, too. A missing one is no error.
func (f *Folder) removeHidden(ctx context.Context, hidden string) error {
	st, err := walk.Lstat(f.dir, hidden)
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
		err = walk.Explain(f.deleteSubvolume(hidden), f.dir, hidden)
	default:
		err = walk.Unpin(walk.Remove(ctx, f.dir, hidden), f.pathOf(hidden))
	}
	if err != nil {
		return err
	}
	err = f.dir.Sync()
	failpoint.Reach("removed")
	return err
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
