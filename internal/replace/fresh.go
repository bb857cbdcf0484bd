package replace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// inStaging is the name of the new subvolume beside what was received for it, which has any other: also that which it gets in the end.
const inStaging = ".new"

// asNew makes a subvolume under a name that is free. Beside it is a directory under a hidden name, with what was received in it; the
// new subvolume is made there, gets what was received, and leaves it.
func (w *work) asNew(ctx context.Context) error {
	w.report.Way, w.report.Path = New, path.Join(w.at, w.name)
	if w.DryRun {
		_, err := btrfs.InfoAt(w.parent, w.hidden())
		w.report.Pending = err == nil
		return nil
	}
	staging, err := w.openStaging()
	if err != nil || staging == nil {
		return err
	}
	defer staging.Close()
	if err := w.goOn(ctx, staging); err != nil || w.Snapshot.IsZero() {
		return err
	}
	if err := w.relist(); err != nil {
		return err
	}
	snapshot, info, err := w.openSnapshot()
	if err != nil {
		return err
	}
	defer snapshot.Close()
	made, err := btrfs.InfoAt(staging, inStaging)
	isIn := err == nil && info.Container == made.ID // an earlier attempt came that far
	if err == nil && !isIn {
		err = deleteAll(staging, inStaging)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !isIn {
		if err := btrfs.SnapshotWritable(snapshot, staging, inStaging); err != nil {
			return err
		}
		failpoint.Reach("writable snapshot made")
	}
	if err := w.takeIn(ctx, staging, info); err != nil {
		return err
	}
	return w.leave(ctx, staging)
}

// openStaging opens the hidden directory; it is nil if there is none and none is needed.
func (w *work) openStaging() (*os.File, error) {
	staging, err := btrfs.OpenDirAt(w.parent, w.hidden())
	if !errors.Is(err, fs.ErrNotExist) || w.Snapshot.IsZero() {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return staging, err
	}
	if err := unix.Mkdirat(int(w.parent.Fd()), w.hidden(), 0o700); err != nil {
		return nil, &fs.PathError{Op: "mkdir", Path: path.Join(w.parent.Name(), w.hidden()), Err: err}
	}
	return btrfs.OpenDirAt(w.parent, w.hidden())
}

// goOn ends what an earlier attempt began to move, and removes what one left that came to its end.
func (w *work) goOn(ctx context.Context, staging *os.File) error {
	if err := arriveAll(staging); err != nil {
		return err
	}
	folder, err := btrfs.OpenDirAt(staging, path.Join(inStaging, w.Folder))
	if err == nil {
		err = arriveAll(folder)
		folder.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if subvolumes, err := btrfs.List(staging); err != nil || len(subvolumes.InDirectory) > 0 || !w.Snapshot.IsZero() {
		return err
	}
	if there, err := btrfs.InfoAt(w.parent, w.name); err == nil && there.Name == w.name && !there.ReadOnly {
		w.report.UUID, w.report.Of, w.report.Resumed = there.UUID, there.ParentUUID, true
	}
	return w.removeStaging(ctx, staging)
}

// takeIn moves what was received for it into the new subvolume.
func (w *work) takeIn(ctx context.Context, staging *os.File, snapshot btrfs.Subvolume) error {
	at, err := btrfs.IdentifyDir(staging)
	if err != nil || w.Folder == "" {
		return err
	}
	made, err := btrfs.OpenDirAt(staging, inStaging)
	if err != nil {
		return err
	}
	defer made.Close()
	if snapshot.Container != at.Subvolume || snapshot.DirID != at.Inode { // it stays where it is
		return tidyFolder(made, w.Folder)
	}
	folder, err := makeDirs(made, nil, w.Folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := errors.Join(removeStubs(folder), copyRecords(ctx, staging, folder), passLatest(nil, folder)); err != nil {
		return err
	}
	return moveSnapshot(staging, snapshot.Name, folder)
}

// leave gives the new subvolume its name.
func (w *work) leave(ctx context.Context, staging *os.File) error {
	made, err := btrfs.InfoAt(staging, inStaging)
	if err != nil {
		return err
	}
	if err := btrfs.SyncFilesystem(w.top); err != nil {
		return err
	}
	if err := btrfs.Move(staging, inStaging, w.parent, w.name); err != nil {
		return err
	}
	failpoint.Reach("subvolume in its place")
	w.report.UUID, w.report.Of = made.UUID, made.ParentUUID
	return w.removeStaging(ctx, staging)
}

// deleteAll deletes a subvolume that an earlier attempt made, with the snapshots in it that were received for that.
func deleteAll(staging *os.File, name string) error {
	made, err := btrfs.OpenDirAt(staging, name)
	if err != nil {
		return err
	}
	defer made.Close()
	children, err := btrfs.Children(made)
	if err != nil {
		return err
	}
	for _, c := range children {
		dir, err := btrfs.OpenDirAt(made, path.Dir(c.Path))
		if err == nil {
			err = btrfs.Delete(dir, path.Base(c.Path))
			dir.Close()
		}
		if err != nil {
			return err
		}
	}
	return btrfs.Delete(staging, name)
}

func (w *work) removeStaging(ctx context.Context, staging *os.File) error {
	if err := walk.Remove(ctx, staging, state.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := unix.Unlinkat(int(w.parent.Fd()), w.hidden(), unix.AT_REMOVEDIR); err != nil {
		return &fs.PathError{Op: "rmdir", Path: path.Join(w.parent.Name(), w.hidden()), Err: err}
	}
	failpoint.Reach("hidden directory removed")
	return btrfs.SyncFilesystem(w.top)
}
