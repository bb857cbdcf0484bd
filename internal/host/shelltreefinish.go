package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/tree"
)

// FinishTree makes a backup of what was copied; see tree.Folder.Finish. It has no manifest, and progress is told of nothing, as
// no file is read.
func (d *shellDir) FinishTree(ctx context.Context, r tree.Result, _ func(bytes int64)) (tree.Record, error) {
	f, err := d.look(ctx)
	if err != nil {
		return tree.Record{}, err
	}
	record, err := f.finish(ctx, r)
	if err != nil {
		return tree.Record{}, fmt.Errorf("finishing %s: %w", d.pathOf(r.Name), err)
	}
	return record, nil
}

func (f *treeFolder) finish(ctx context.Context, r tree.Result) (record tree.Record, err error) {
	hidden := btrfs.Incoming(r.Name)
	if err := tree.CheckName(r.Name); err != nil {
		return record, err
	}
	if _, ours := f.unfinished[hidden]; !ours || !f.isDir[hidden] {
		return record, fmt.Errorf("opening what was copied for %s: %w", f.pathOf(r.Name), fs.ErrNotExist)
	}
	// What is written from here on would replace what is known of a backup of that name.
	if err := f.checkFree(r.Name); err != nil {
		return record, err
	}
	if f.Btrfs && f.idOf(hidden) == "" {
		return record, fmt.Errorf("%s: %w", f.pathOf(hidden), btrfs.ErrNotSubvolume)
	}
	f.host.options.Log.Info(fmt.Sprintf("%s: without btrfs-backup on that machine, its backups cannot be verified, and equal files "+
		"do not share their space", f.host))
	record = tree.Record{Name: r.Name, Source: r.Source, Started: r.Started, Base: r.Base,
		Incomplete: r.Incomplete[:min(len(r.Incomplete), maxIncomplete)], Missing: max(r.Missing, len(r.Incomplete))}
	if f.Btrfs {
		record.Subvolume = f.subvolumes[hidden].UUID.String()
	}
	if record.Files, record.Bytes, err = f.count(ctx, r); err != nil {
		return record, err
	}
	record.Finished, record.Sequence = time.Now(), 1
	if n := len(f.Backups); n > 0 {
		record.Sequence += f.Backups[n-1].Sequence
	}
	if err := f.forget(ctx, r.Name); err != nil {
		return record, err
	}
	if err := f.writeJSON(ctx, tree.RecordFile(r.Name), record); err != nil {
		return record, err
	}
	if _, err := f.change(ctx, "renaming", scriptTreesName, nil, hidden, r.Name, f.idOf(hidden)); err != nil {
		err = at("renaming", f.pathOf(hidden), err)
		if errors.Is(err, fs.ErrExist) { // what took the name just now is not what the record tells of
			err = errors.Join(err, f.forget(ctx, r.Name))
		}
		return record, err
	}
	if err := f.drop(ctx, hidden); err != nil { // the next BeginTree will see that there is nothing under the hidden name
		f.host.options.Log.Warn(err.Error())
	}
	return record, nil
}

const (
	// maxIncomplete is how many messages about missing files a record holds.
	maxIncomplete = 1000
	// minGone is how many files of the backup before must be missing for a refusal.
	minGone = 100
)

// count counts what was copied, and discards it if too many files of the backup before are missing in it.
func (f *treeFolder) count(ctx context.Context, r tree.Result) (files, bytes int64, err error) {
	hidden, base := btrfs.Incoming(r.Name), r.Base
	if !f.isBackup(base) {
		base = ""
	}
	a, err := f.change(ctx, "counting", scriptTreesCount, nil, base, hidden)
	if err != nil {
		return 0, 0, err
	}
	var had, gone int64
	if text := a.next(); a.err == nil {
		_, a.err = fmt.Sscan(text, &had, &gone, &files, &bytes)
	}
	if a.err != nil {
		return 0, 0, fmt.Errorf("counting the files in %s: %w", f.pathOf(hidden), a.err)
	}
	if gone < minGone || gone*100 <= had*int64(r.MaxDelete) {
		return files, bytes, nil
	}
	err = f.remove(ctx, hidden)
	if err == nil {
		err = f.drop(ctx, hidden)
	}
	return 0, 0, errors.Join(&tree.TooManyGoneError{Base: r.Base, Gone: gone, Had: had, Percent: r.MaxDelete}, err)
}

var errNotBackup = errors.New("it is not a backup that was made here")

// DeleteTrees deletes what it can of the named backups.
func (d *shellDir) DeleteTrees(ctx context.Context, names []string) (deleted []string, err error) {
	f, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, name := range names {
		if ctx.Err() != nil {
			failures = append(failures, context.Cause(ctx))
			break
		}
		if err := f.deleteBackup(ctx, name); err != nil {
			failures = append(failures, fmt.Errorf("deleting %s: %w", d.pathOf(name), err))
			continue
		}
		d.host.options.Log.Debug("deleted " + d.pathOf(name))
		deleted = append(deleted, name)
	}
	return deleted, errors.Join(failures...)
}

// deleteBackup deletes a subvolume at once, and lets a directory leave its name before anything is taken from it.
func (f *treeFolder) deleteBackup(ctx context.Context, name string) error {
	if _, isUnfinished := f.unfinished[name]; isUnfinished || !f.isBackup(name) {
		return errNotBackup
	}
	if f.idOf(name) != "" {
		if err := f.remove(ctx, name); err != nil {
			return err
		}
		return f.forget(ctx, name)
	}
	hidden := tree.Deleting(name)
	if err := f.checkHiddenFree(hidden); err != nil {
		return err
	}
	if err := f.note(ctx, hidden, tree.UnfinishedEntry{}); err != nil {
		return err
	}
	if err := f.move(ctx, name, hidden); err != nil {
		return errors.Join(err, f.drop(ctx, hidden))
	}
	return f.finishDeleting(ctx, name, hidden)
}

// finishDeleting goes on with a deletion: what has left its name goes, and then what is known about it.
func (f *treeFolder) finishDeleting(ctx context.Context, name, hidden string) error {
	if _, there := f.isDir[hidden]; there {
		if err := f.remove(ctx, hidden); err != nil {
			return err
		}
	}
	if tree.CheckName(name) == nil && f.checkFree(name) == nil {
		if err := f.forget(ctx, name); err != nil {
			return err
		}
	}
	return f.drop(ctx, hidden)
}
