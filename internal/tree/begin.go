package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Begin prepares the partial copy of a backup. One of the same source that an interrupted run left is resumed, unless it left no
// room to go on: then it is removed.
func (f *Folder) Begin(ctx context.Context, o Order) (Work, error) {
	w, err := f.begin(ctx, o)
	if isFull(err) {
		switch removed, removeErr := f.makeRoom(ctx, o.Origin); {
		case removeErr != nil:
			err = errors.Join(err, removeErr)
		case removed:
			w, err = f.begin(ctx, o)
		}
	}
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
	list    unfinished
	hidden  string // name of the directory to prepare
	sticky  [][]byte
}

func (f *Folder) begin(ctx context.Context, o Order) (w Work, err error) {
	s := start{Folder: f, Order: o, hidden: btrfs.Incoming(o.Name)}
	if err := checkName(o.Name); err != nil {
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
	if err := f.state.Make(); err != nil {
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
	partial, err := s.partialCopy(ctx)
	if err != nil {
		return w, err
	}
	subvolume, err := s.subvolumeAt(s.Snapshot)
	if err != nil {
		return w, err
	}
	if subvolume != nil {
		defer subvolume.Close()
		return s.prepareSnapshot(ctx, subvolume, partial)
	}
	return s.prepare(ctx, partial)
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
	s.sticky = record.Sticky
	return err
}

// partialCopy gives the hidden name of the partial copy that an interrupted run left of the same source, or "".
func (s *start) partialCopy(ctx context.Context) (string, error) {
	for _, hidden := range slices.Sorted(maps.Keys(s.list)) {
		if !btrfs.IsIncoming(hidden) || !s.list[hidden].Same(s.Origin) {
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

// prepare makes the directory out of a partial copy, if there is one.
func (s *start) prepare(ctx context.Context, partial string) (Work, error) {
	w := Work{Path: s.pathOf(s.hidden), Subvolume: s.onBtrfs, Resumed: partial != "", Sticky: s.sticky}
	w.InPlace = s.onBtrfs && (s.Base != "" || w.Resumed)
	if s.Base != "" && !s.onBtrfs {
		w.LinkDest = s.pathOf(s.Base)
	}
	if partial != s.hidden {
		if err := s.checkHiddenFree(s.hidden); err != nil {
			return w, err
		}
	}
	var err error
	var most uint64
	if s.Full && w.LinkDest != "" { // while the files that have most names have them
		if most, err = s.maxNames(ctx); err != nil {
			return w, err
		}
	}
	if w.Resumed {
		w.Checksum = s.list[partial].doubtful(s.boot)
		err = s.resume(partial)
	} else {
		err = s.create(s.makeHidden)
	}
	if err != nil {
		return w, err
	}
	if s.onBtrfs || w.Resumed {
		// rsync changes inodes in place: with their contents in a subvolume, which is a copy, else with their modes and owners.
		err = walk.Unshare(ctx, s.dir, s.hidden, s.onBtrfs)
	}
	if err == nil && most > 0 {
		err = s.fill(ctx, most)
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
	st, err := walk.Lstat(s.dir, s.hidden)
	return st.Mtim == precise, err
}

// resume gives a partial copy the name of the new backup. From now on it is not known to be on disk.
func (s *start) resume(partial string) error {
	entry := s.list[partial]
	if !entry.doubtful(s.boot) {
		entry.Boot = s.boot
	}
	entry.Synced = false
	s.list[partial], s.list[s.hidden] = entry, entry
	if err := s.writeUnfinished(s.list); err != nil {
		return err
	}
	// Its record was written for a backup that it did not become.
	if name, ok := btrfs.IncomingOf(partial); ok {
		if err := s.removeRecord(name); err != nil {
			return err
		}
	}
	if partial != s.hidden {
		if err := s.rename(partial, s.hidden); err != nil {
			return err
		}
		delete(s.list, partial)
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
	s.list[s.hidden] = unfinishedEntry{Origin: s.Origin, Boot: s.boot}
	if err := s.writeUnfinished(s.list); err != nil {
		return err
	}
	if err := make(); err != nil {
		return errors.Join(err, s.dropUnfinished(s.hidden))
	}
	failpoint.Reach("partial copy made")
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

// tidy forgets what is no leftover any more, and removes drafts of earlier runs.
func (f *Folder) tidy(ctx context.Context) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	for _, hidden := range slices.Sorted(maps.Keys(list)) {
		if err := f.tidyHidden(hidden); err != nil {
			return err
		}
	}
	if err := f.dropFull(ctx); err != nil {
		return err
	}
	files, err := f.state.Names()
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasSuffix(file, state.TemporaryEnd) {
			if err := f.state.Remove(state.Manifests + "/" + file); err != nil {
				return err
			}
		}
	}
	return nil
}

// tidyHidden forgets a partial copy that is gone.
func (f *Folder) tidyHidden(hidden string) error {
	if _, deleting := deletingOf(hidden); deleting {
		return nil
	}
	st, err := walk.Lstat(f.dir, hidden)
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
	err := f.state.TryLink()
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
		return hint.New(fmt.Errorf("%w: %w", ErrNoLinks, err), "use a folder on btrfs, ext4, xfs or another filesystem with hard links")
	}
	return err
}
