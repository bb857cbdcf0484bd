package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// change runs a script that begins with scriptTrees.
func (d *shellDir) change(ctx context.Context, doing, script string, stdin []byte, args ...string) (printed, error) {
	a, err := d.host.run(ctx, doing, script, stdin, d.arguments(args...)...)
	return a, told(err)
}

// writeState replaces a state file, on disk too.
func (d *shellDir) writeState(ctx context.Context, file string, content []byte) error {
	_, err := d.change(ctx, "writing", scriptTreesWrite, content, file, strconv.Itoa(len(content)))
	return at("writing", d.pathOf(tree.StateDir+"/"+file), err)
}

// writeJSON writes a state file as package tree does.
func (d *shellDir) writeJSON(ctx context.Context, file string, v any) error {
	content, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	return d.writeState(ctx, file, append(content, '\n'))
}

func (f *treeFolder) writeUnfinished(ctx context.Context) error {
	return f.writeJSON(ctx, tree.UnfinishedFile, f.unfinished)
}

// note puts an entry of the list of hidden directories on disk.
func (f *treeFolder) note(ctx context.Context, hidden string, entry tree.UnfinishedEntry) error {
	f.unfinished[hidden] = entry
	return f.writeUnfinished(ctx)
}

// drop removes an entry.
func (f *treeFolder) drop(ctx context.Context, hidden string) error {
	delete(f.unfinished, hidden)
	return f.writeUnfinished(ctx)
}

// forget removes what is known about a backup.
func (f *treeFolder) forget(ctx context.Context, name string) error {
	_, err := f.change(ctx, "removing", scriptTreesForget, nil, tree.RecordFile(name), tree.ManifestFile(name))
	return at("removing", f.pathOf(tree.StateDir+"/"+tree.RecordFile(name)), err)
}

// move gives an entry another name, which must be free.
func (f *treeFolder) move(ctx context.Context, from, to string) error {
	if _, err := f.change(ctx, "renaming", scriptTreesMove, nil, from, to); err != nil {
		return at("renaming", f.pathOf(from), err)
	}
	f.isDir[to] = f.isDir[from]
	if s, ok := f.subvolumes[from]; ok {
		f.subvolumes[to] = s
	}
	f.gone(from)
	return nil
}

func (f *treeFolder) gone(name string) {
	delete(f.isDir, name)
	delete(f.subvolumes, name)
}

// remove removes a directory, for good.
func (f *treeFolder) remove(ctx context.Context, name string) error {
	if _, err := f.change(ctx, "removing", scriptTreesRemove, nil, name, f.idOf(name)); err != nil {
		return at("removing", f.pathOf(name), err)
	}
	f.gone(name)
	return nil
}

// BeginTree prepares a directory for a backup; see tree.Folder.Begin.
func (d *shellDir) BeginTree(ctx context.Context, o tree.Order) (tree.Work, error) {
	f, err := d.look(ctx)
	if err != nil {
		return tree.Work{}, err
	}
	w, err := f.begin(ctx, o)
	if err != nil {
		return tree.Work{}, fmt.Errorf("preparing %s: %w", d.pathOf(o.Name), err)
	}
	return w, nil
}

func (f *treeFolder) begin(ctx context.Context, o tree.Order) (w tree.Work, err error) {
	if o.Snapshot != "" {
		return w, f.needsProgram("a snapshot of " + o.Snapshot + " in")
	}
	if err := tree.CheckName(o.Name); err != nil {
		return w, err
	}
	if err := f.checkFree(o.Name); err != nil {
		return w, err
	}
	if err := f.tidy(ctx); err != nil {
		return w, err
	}
	hidden, previous := btrfs.Incoming(o.Name), ""
	if previous, err = f.interrupted(ctx, o.Source); err != nil {
		return w, err
	}
	if previous != hidden {
		if err := f.checkHiddenFree(hidden); err != nil {
			return w, err
		}
	}
	if r := f.records[o.Base]; !f.isBackup(o.Base) || f.Btrfs && r.Subvolume == "" {
		o.Base = ""
	}
	w = tree.Work{Path: f.pathOf(hidden), Subvolume: f.Btrfs, Resumed: previous != ""}
	w.InPlace = f.Btrfs && (o.Base != "" || w.Resumed)
	if o.Base != "" && !f.Btrfs {
		w.LinkDest = f.pathOf(o.Base)
	}
	if w.Resumed {
		w.Checksum = f.unfinished[previous].Doubtful(f.boot)
		err = f.resume(ctx, previous, hidden)
	} else {
		err = f.create(ctx, hidden, o)
	}
	if err != nil {
		return w, err
	}
	w.Nanoseconds, err = f.ready(ctx, hidden, w)
	return w, err
}

// tidy goes on with deletions, forgets unfinished backups that are gone, and refuses a filesystem on which each backup would
// take the space of a complete copy. What cannot be deleted does not keep a backup from being made.
func (f *treeFolder) tidy(ctx context.Context) error {
	if err := f.writeUnfinished(ctx); err != nil { // which makes the directories for state files, too
		return err
	}
	a, err := f.change(ctx, "tidying", scriptTreesTidy, nil)
	if err != nil {
		return err
	}
	if message := a.next(); message != "" {
		err := verdict("linking", f.pathOf(tree.StateDir+"/probe"), message)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EROFS) {
			return err
		}
		return withHint{fmt.Errorf("%w: %w", tree.ErrNoLinks, err),
			"use a folder on btrfs, ext4, xfs or another filesystem with hard links"}
	}
	for _, hidden := range slices.Sorted(maps.Keys(f.unfinished)) {
		name, isDeleting := tree.DeletingOf(hidden)
		switch {
		case isDeleting:
			err = f.finishDeleting(ctx, name, hidden)
		case !f.isDir[hidden]:
			err = f.drop(ctx, hidden)
		}
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil {
			f.host.options.Log.Warn(fmt.Sprintf("removing what is left of %s: %v", f.pathOf(hidden), err))
			err = nil
		}
	}
	return a.err
}

// interrupted gives the hidden name of what an interrupted run left of the same source, or "".
func (f *treeFolder) interrupted(ctx context.Context, source string) (string, error) {
	for _, hidden := range slices.Sorted(maps.Keys(f.unfinished)) {
		if _, isIncoming := btrfs.IncomingOf(hidden); !isIncoming || f.unfinished[hidden].Source != source || !f.isDir[hidden] {
			continue
		}
		if (f.idOf(hidden) != "") == f.Btrfs {
			return hidden, nil
		}
		if err := f.remove(ctx, hidden); err != nil { // it was copied here from another kind of filesystem
			return "", err
		}
		if err := f.drop(ctx, hidden); err != nil {
			return "", err
		}
	}
	return "", nil
}

// create makes the directory anew.
func (f *treeFolder) create(ctx context.Context, hidden string, o tree.Order) error {
	if err := f.note(ctx, hidden, tree.UnfinishedEntry{Source: o.Source, Boot: f.boot}); err != nil {
		return err
	}
	if _, err := f.change(ctx, "making", scriptTreesMake, nil, hidden, o.Base, f.idOf(o.Base)); err != nil {
		return errors.Join(at("making", f.pathOf(hidden), err), f.drop(ctx, hidden))
	}
	return nil
}

// resume gives what an interrupted run left the name of the new backup. From now on it is not known to be on disk.
func (f *treeFolder) resume(ctx context.Context, previous, hidden string) error {
	entry := f.unfinished[previous]
	if !entry.Doubtful(f.boot) {
		entry.Boot = f.boot
	}
	entry.Synced = false
	f.unfinished[previous] = entry
	if err := f.note(ctx, hidden, entry); err != nil {
		return err
	}
	// What is known about it was written for a backup that it did not become.
	if name, ok := btrfs.IncomingOf(previous); ok {
		if err := f.forget(ctx, name); err != nil {
			return err
		}
	}
	if previous == hidden {
		return nil
	}
	if err := f.move(ctx, previous, hidden); err != nil {
		return err
	}
	return f.drop(ctx, previous)
}

// ready makes sure that what rsync changes in place is seen nowhere else, and tells whether the directory keeps nanoseconds.
func (f *treeFolder) ready(ctx context.Context, hidden string, w tree.Work) (nanoseconds bool, err error) {
	kind := ""
	switch {
	case w.InPlace:
		kind = "subvolume"
	case w.Resumed:
		kind = "links"
	}
	a, err := f.change(ctx, "preparing", scriptTreesReady, nil, hidden, kind)
	nanoseconds = a.next() == "1"
	if err == nil {
		err = a.err
	}
	return nanoseconds, err
}

// KeepTree puts what was copied so far on disk.
func (d *shellDir) KeepTree(ctx context.Context, name string) error {
	f, err := d.look(ctx)
	if err != nil {
		return err
	}
	hidden := btrfs.Incoming(name)
	entry, ours := f.unfinished[hidden]
	if !ours || entry.Doubtful(f.boot) { // what may have been lost before is not found by a sync
		return nil
	}
	if err := d.Sync(ctx); err != nil {
		return fmt.Errorf("keeping %s: %w", d.pathOf(hidden), err)
	}
	entry.Synced = true
	return f.note(ctx, hidden, entry)
}
