package replace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// inPlace puts the new subvolume in the place of another one. Until both exchange their names, the new one has a hidden name, and the
// old one all that is in it. From then on, the old one has the hidden name, until all that belongs into the new one has moved there.
// Which of the two has it is told by their age.
func (w *work) inPlace(ctx context.Context) error {
	if err := w.finishEarlier(ctx); err != nil || w.Snapshot.IsZero() && !w.DryRun {
		return err
	}
	if err := w.relist(); err != nil {
		return err
	}
	var snapshot *os.File // nil: it is not there yet
	if !w.Snapshot.IsZero() {
		var err error
		if snapshot, _, err = w.openSnapshot(); err != nil {
			return err
		}
		defer snapshot.Close()
	}
	if err := w.chooseAside(); err != nil {
		return err
	}
	old, info, err := w.open(w.name)
	if err != nil {
		return err
	}
	defer old.Close()
	if info.ReadOnly {
		return hint.New(fmt.Errorf("%s is read-only", w.path(w.name)), "restore to another name, or make it writable: btrfs property set PATH ro false")
	}
	w.report.Way, w.report.Path, w.report.Aside, w.report.AsideID = Exchange, w.path(w.name), w.path(w.Aside), info.ID
	number, isSnapper := w.snapperNumber()
	if isSnapper {
		w.report.Way, w.report.Aside = Default, w.path(w.name)
	}
	sorted, err := w.check(old, snapshot, info)
	if err != nil {
		return err
	}
	w.report.Left = sorted.left
	if w.DryRun {
		w.report.Moved = sorted.moved
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if isSnapper {
		return w.asSnapper(ctx, old, snapshot, info, number, sorted.moved)
	}
	return w.exchange(context.WithoutCancel(ctx), snapshot, info)
}

func (w *work) path(name string) string { return path.Join(w.at, name) }

// open opens a subvolume beside the new one.
func (w *work) open(name string) (*os.File, btrfs.Subvolume, error) {
	sub, err := btrfs.OpenDirAt(w.parent, name)
	if err != nil {
		return nil, btrfs.Subvolume{}, err
	}
	if err = btrfs.CheckSubvolume(sub); err == nil {
		var info btrfs.Subvolume
		if info, err = btrfs.Info(sub); err == nil {
			return sub, info, nil
		}
	}
	sub.Close()
	return nil, btrfs.Subvolume{}, fmt.Errorf("%s: %w", w.path(name), err)
}

// exchange makes the new subvolume and gives it its place.
func (w *work) exchange(ctx context.Context, snapshot *os.File, old btrfs.Subvolume) error {
	if err := btrfs.SnapshotWritable(snapshot, w.parent, w.hidden()); err != nil {
		return err
	}
	failpoint.Reach("writable snapshot made")
	if err := btrfs.SyncFilesystem(w.top); err != nil {
		return err
	}
	made, err := btrfs.InfoAt(w.parent, w.hidden())
	if err == nil && made.CreatedIn <= old.CreatedIn { // by which the two are told from each other
		err = errors.New("the old subvolume was made in the same transaction: try again")
	}
	if err == nil {
		err = btrfs.Exchange(w.parent, w.hidden(), w.name)
	}
	if err != nil {
		return errors.Join(err, btrfs.Delete(w.parent, w.hidden()))
	}
	failpoint.Reach("subvolumes exchanged")
	return w.finish(ctx)
}

// finishEarlier ends what an earlier attempt began, or removes what it left.
func (w *work) finishEarlier(ctx context.Context) error {
	hidden, err := btrfs.InfoAt(w.parent, w.hidden())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	current, err := btrfs.InfoAt(w.parent, w.name)
	if err != nil || hidden.Name != w.hidden() { // it is no subvolume
		return err
	}
	if w.DryRun {
		w.report.Pending = hidden.CreatedIn <= current.CreatedIn
		return nil
	}
	if hidden.CreatedIn > current.CreatedIn {
		return btrfs.Delete(w.parent, w.hidden())
	}
	w.report.Resumed = true
	return w.finish(ctx)
}

// finish moves what belongs into the new subvolume from the old one, which has the hidden name, and gives that one its own.
func (w *work) finish(ctx context.Context) error {
	old, oldInfo, err := w.open(w.hidden())
	if err != nil {
		return err
	}
	defer old.Close()
	made, info, err := w.open(w.name)
	if err != nil {
		return err
	}
	defer made.Close()
	if err := w.chooseAside(); err != nil {
		return err
	}
	w.report.Way, w.report.Path, w.report.Aside, w.report.AsideID = Exchange, w.path(w.name), w.path(w.Aside), oldInfo.ID
	w.report.UUID, w.report.Of = info.UUID, info.ParentUUID
	if err := w.passDefault(oldInfo, info); err != nil {
		return err
	}
	sorted, err := w.sort(old, made, nil)
	if err != nil {
		return err
	}
	w.report.Left = sorted.left
	if err := w.moveAll(ctx, old, made, sorted.moved); err != nil {
		return err
	}
	if err := w.nameAside(); err != nil {
		return err
	}
	failpoint.Reach("old subvolume named")
	if err := w.tellLeft(); err != nil {
		return err
	}
	if table, err := w.mounts(); err == nil {
		w.report.Mounts = mountsOf(table, oldInfo)
	}
	return btrfs.SyncFilesystem(w.top)
}

// passDefault makes the new subvolume the default if the old one was: that follows the ID.
func (w *work) passDefault(old, made btrfs.Subvolume) error {
	if err := w.relist(); err != nil {
		return err
	}
	for _, s := range w.all.All {
		switch {
		case !s.Default:
		case s.ID == made.ID:
			w.report.Default = true
		case s.ID == old.ID:
			if err := btrfs.SetDefault(w.top, made.ID); err != nil {
				return err
			}
			w.report.Default = true
			failpoint.Reach("default set")
		}
	}
	return nil
}
