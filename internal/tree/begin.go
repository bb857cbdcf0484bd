package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// Begin prepares a directory for a backup, after it has removed what earlier runs left and is of no use. What an interrupted
// run copied of the same source is gone on with.
func (f *Folder) Begin(ctx context.Context, o Order) (Work, error) {
	w, err := f.begin(ctx, o)
	if err != nil {
		return Work{}, fmt.Errorf("preparing %s: %w", f.pathOf(o.Name), err)
	}
	return w, nil
}

// A start is a backup that begins.
type start struct {
	*Folder
	Order
	onBtrfs bool
	boot    string
	list    Unfinished
	hidden  string // name of the directory to prepare
}

func (f *Folder) begin(ctx context.Context, o Order) (w Work, err error) {
	s := start{Folder: f, Order: o, hidden: btrfs.Incoming(o.Name)}
	if err := CheckName(o.Name); err != nil {
		return w, err
	}
	if err := f.checkFree(o.Name); err != nil {
		return w, err
	}
	if s.onBtrfs, err = f.onBtrfs(); err != nil {
		return w, err
	}
	if s.boot, err = bootID(); err != nil {
		return w, err
	}
	if err := f.makeState(); err != nil {
		return w, err
	}
	if err := f.checkLinks(s.onBtrfs); err != nil {
		return w, err
	}
	if err := f.tidy(ctx); err != nil {
		return w, err
	}
	if s.list, err = f.unfinished(); err != nil {
		return w, err
	}
	if err := s.chooseBase(); err != nil {
		return w, err
	}
	previous, err := s.interrupted(ctx)
	if err != nil {
		return w, err
	}
	subvolume, err := s.subvolumeAt(s.Snapshot)
	if err != nil {
		return w, err
	}
	if subvolume != nil {
		defer subvolume.Close()
		return s.prepareSnapshot(ctx, subvolume, previous)
	}
	return s.prepare(ctx, previous)
}

// chooseBase leaves a base only if it can be built upon.
func (s *start) chooseBase() error {
	if s.Base == "" {
		return nil
	}
	record, err := s.backup(s.Base)
	if errors.Is(err, errNotBackup) || err == nil && s.onBtrfs && record.Subvolume == "" {
		s.Base = ""
		return nil
	}
	return err
}

// interrupted gives the hidden name of what an interrupted run left of the same source, or "".
func (s *start) interrupted(ctx context.Context) (string, error) {
	for _, hidden := range slices.Sorted(maps.Keys(s.list)) {
		if _, isIncoming := btrfs.IncomingOf(hidden); !isIncoming || s.list[hidden].Source != s.Source {
			continue
		}
		isSubvolume, err := s.isSubvolume(hidden)
		if err != nil {
			return "", err
		}
		if isSubvolume == s.onBtrfs {
			return hidden, nil
		}
		if err := s.removeHidden(ctx, hidden); err != nil { // it was copied here from another kind of filesystem
			return "", err
		}
		delete(s.list, hidden)
	}
	return "", nil
}

// prepare makes the directory out of that of an interrupted run, if there is one.
func (s *start) prepare(ctx context.Context, previous string) (Work, error) {
	w := Work{Path: s.pathOf(s.hidden), Subvolume: s.onBtrfs, Resumed: previous != ""}
	w.InPlace = s.onBtrfs && (s.Base != "" || w.Resumed)
	if s.Base != "" && !s.onBtrfs {
		w.LinkDest = s.pathOf(s.Base)
	}
	if previous != s.hidden {
		if err := s.checkHiddenFree(s.hidden); err != nil {
			return w, err
		}
	}
	var err error
	if w.Resumed {
		w.Checksum = s.list[previous].Doubtful(s.boot)
		err = s.resume(previous)
	} else {
		err = s.create(s.makeHidden)
	}
	if err != nil {
		return w, err
	}
	if s.onBtrfs || w.Resumed {
		// rsync changes inodes in place: with their contents in a subvolume, which is a copy, else with their modes and owners.
		err = unshare(ctx, s.dir, s.hidden, s.onBtrfs)
	}
	if err == nil {
		w.Nanoseconds, err = s.keepsNanoseconds()
	}
	return w, err
}

// keepsNanoseconds tries it on the time of the directory, which is going to be changed anyway.
func (s *start) keepsNanoseconds() (bool, error) {
	precise := unix.Timespec{Sec: 1, Nsec: 123456789}
	err := unix.UtimesNanoAt(int(s.dir.Fd()), s.hidden, []unix.Timespec{precise, precise}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return false, fmt.Errorf("setting the time of %s: %w", s.pathOf(s.hidden), err)
	}
	st, err := lstatAt(s.dir, s.hidden)
	return st.Mtim == precise, err
}

// resume gives what an interrupted run left the name of the new backup. From now on it is not known to be on disk.
func (s *start) resume(previous string) error {
	entry := s.list[previous]
	if !entry.Doubtful(s.boot) {
		entry.Boot = s.boot
	}
	entry.Synced = false
	s.list[previous], s.list[s.hidden] = entry, entry
	if err := s.writeUnfinished(s.list); err != nil {
		return err
	}
	// What is known about it was written for a backup that it did not become.
	if name, ok := btrfs.IncomingOf(previous); ok {
		if err := s.removeRecord(name); err != nil {
			return err
		}
	}
	if previous != s.hidden {
		if err := s.rename(previous, s.hidden); err != nil {
			return err
		}
		delete(s.list, previous)
		if err := s.writeUnfinished(s.list); err != nil {
			return err
		}
	}
	if !s.onBtrfs {
		return nil
	}
	return btrfs.SetReadOnly(s.dir, s.hidden, false)
}

// create makes the directory anew.
func (s *start) create(make func() error) error {
	s.list[s.hidden] = UnfinishedEntry{Source: s.Source, Boot: s.boot}
	if err := s.writeUnfinished(s.list); err != nil {
		return err
	}
	if err := make(); err != nil {
		return errors.Join(err, s.dropUnfinished(s.hidden))
	}
	return nil
}

func (s *start) makeHidden() error {
	switch {
	case !s.onBtrfs:
		if err := unix.Mkdirat(int(s.dir.Fd()), s.hidden, 0o700); err != nil {
			return fmt.Errorf("making %s: %w", s.pathOf(s.hidden), err)
		}
		return nil
	case s.Base == "":
		return s.makeSubvolume()
	}
	base, err := btrfs.OpenDirAt(s.dir, s.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	return btrfs.SnapshotWritable(base, s.dir, s.hidden)
}

// makeSubvolume makes an empty subvolume that nobody else may look into.
func (s *start) makeSubvolume() error {
	if err := btrfs.Create(s.dir, s.hidden); err != nil {
		return err
	}
	dir, err := btrfs.OpenDirAt(s.dir, s.hidden)
	if err == nil {
		err = dir.Chmod(0o700)
		dir.Close()
	}
	if err != nil {
		err = errors.Join(err, btrfs.Delete(s.dir, s.hidden))
	}
	return err
}

// tidy removes what earlier runs left and is of no use. What of it cannot be removed does not keep a backup from being made.
func (f *Folder) tidy(ctx context.Context) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	for _, hidden := range slices.Sorted(maps.Keys(list)) {
		if err := f.tidyHidden(ctx, hidden); err != nil {
			if ctx.Err() != nil {
				return err
			}
			f.log.Warn(fmt.Sprintf("removing what is left of %s: %v", f.pathOf(hidden), err))
		}
	}
	files, err := readNames(f.dir, StateDir+"/"+manifestsDir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasSuffix(file, temporaryEnd) {
			if err := f.removeState(manifestsDir + "/" + file); err != nil {
				return err
			}
		}
	}
	return nil
}

// tidyHidden goes on with a deletion, and forgets an unfinished backup that is gone.
func (f *Folder) tidyHidden(ctx context.Context, hidden string) error {
	if name, ok := DeletingOf(hidden); ok {
		return f.finishDeleting(ctx, name)
	}
	st, err := lstatAt(f.dir, hidden)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return f.dropUnfinished(hidden)
	}
	return err
}

// checkLinks refuses a filesystem on which each backup would take the space of a complete copy.
func (f *Folder) checkLinks(onBtrfs bool) error {
	if onBtrfs {
		return nil
	}
	const probe, second = "probe", "probe.link"
	defer f.removeState(second)
	defer f.removeState(probe)
	if err := f.removeState(second); err != nil {
		return err
	}
	if err := f.writeState(probe, nil); err != nil {
		return err
	}
	dir, err := f.state(probe)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Linkat(int(dir.Fd()), probe, int(dir.Fd()), second, 0)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
		return hint.New(fmt.Errorf("%w: %w", ErrNoLinks, err), "use a folder on btrfs, ext4, xfs or another filesystem with hard links")
	case err != nil:
		return fmt.Errorf("linking %s: %w", f.statePath(probe), err)
	}
	return nil
}
