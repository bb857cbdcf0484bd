package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// List lists the folder. It changes nothing, and fails rather than leave something out. A backup whose record cannot be
// understood is one of the others.
func (f *Folder) List(ctx context.Context) (Listing, error) {
	l, err := f.list(ctx)
	if err != nil {
		return Listing{}, fmt.Errorf("listing %s: %w", f.dir.Name(), err)
	}
	return l, nil
}

func (f *Folder) list(ctx context.Context) (l Listing, err error) {
	if l.ID, err = f.id(); err != nil {
		return l, err
	}
	if l.Btrfs, err = f.onBtrfs(); err != nil {
		return l, err
	}
	if l.Free, err = f.free(); err != nil {
		return l, err
	}
	hidden, err := f.unfinished()
	if err != nil {
		return l, err
	}
	for _, name := range slices.Sorted(maps.Keys(hidden)) {
		if _, deleting := deletingOf(name); deleting {
			l.Deleting = append(l.Deleting, name)
		}
	}
	recorded, err := f.state.Recorded()
	if err != nil {
		return l, err
	}
	names, err := readNames(f.dir, ".")
	if err != nil {
		return l, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return l, context.Cause(ctx)
		}
		if err := f.classify(&l, name, hidden, recorded); err != nil {
			return l, err
		}
	}
	slices.SortFunc(l.Backups, Record.Compare)
	continued, err := f.resolved()
	if err != nil {
		return l, err
	}
	for i := range l.Backups {
		l.Backups[i].Origin = continued.as(l.Backups[i].Origin)
	}
	if l.ID == "" {
		l.Below = f.below(slices.DeleteFunc(slices.Clone(l.Others), func(name string) bool { return slices.Contains(l.Received, name) }))
	}
	return l, nil
}

// classify puts an entry of the folder where it belongs in the listing.
func (f *Folder) classify(l *Listing, name string, hidden unfinished, recorded []string) error {
	if name == StateDir {
		l.Marked = true
		return nil
	}
	if _, ours := hidden[name]; ours {
		if _, deleting := deletingOf(name); !deleting {
			l.Leftovers = append(l.Leftovers, name)
		}
		return nil
	}
	if _, ok := slices.BinarySearch(recorded, name); ok {
		record, err := f.backup(name)
		if err == nil {
			l.Backups = append(l.Backups, record)
			return nil
		}
		if !errors.Is(err, errNotBackup) {
			return err
		}
	}
	l.Others = append(l.Others, name)
	received, err := f.isReceived(l.Btrfs, name)
	if received {
		l.Received = append(l.Received, name)
	}
	return err
}

// isReceived tells that an entry is the copy of another subvolume. Of what this user may not look into it is unknown.
func (f *Folder) isReceived(onBtrfs bool, name string) (bool, error) {
	st, err := walk.Lstat(f.dir, name)
	if errors.Is(err, fs.ErrNotExist) || !onBtrfs || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	dir, err := btrfs.OpenDirAt(f.dir, name)
	if err != nil {
		return false, nil
	}
	defer dir.Close()
	info, err := subvolume(dir)
	return !info.ReceivedUUID.IsZero(), err
}

// subvolume describes a directory, if it is one.
func subvolume(dir *os.File) (info btrfs.Subvolume, err error) {
	err = btrfs.CheckSubvolume(dir)
	if errors.Is(err, btrfs.ErrNotBtrfs) || errors.Is(err, btrfs.ErrNotSubvolume) {
		return info, nil
	}
	if err != nil {
		return info, err
	}
	return btrfs.Info(dir)
}

// Backup gives the record of one backup, without listing the folder. There is none of anything else: that is fs.ErrNotExist.
func (f *Folder) Backup(name string) (Record, error) {
	record, err := f.backup(name)
	if errors.Is(err, errNotBackup) {
		return Record{}, fmt.Errorf("%s: %w: %w", f.pathOf(name), fs.ErrNotExist, err)
	}
	return record, err
}

// backup gives the record of a backup, and errNotBackup for whatever else may have the name.
func (f *Folder) backup(name string) (Record, error) {
	if err := checkName(name); err != nil {
		return Record{}, fmt.Errorf("%w: %w", errNotBackup, err)
	}
	record, err := f.readRecord(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{}, errNotBackup
	case isDamaged(err):
		f.log.Warn(err.Error())
		return Record{}, fmt.Errorf("%w: %w", errNotBackup, err)
	case err != nil:
		return Record{}, err
	}
	is, err := f.isOf(record)
	if err == nil && !is {
		err = errNotBackup
	}
	return record, err
}

// isOf tells whether the record is of what stands under its name.
func (f *Folder) isOf(r Record) (bool, error) {
	st, err := walk.Lstat(f.dir, r.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, err
	}
	if r.Subvolume == "" {
		return true, nil
	}
	dir, err := btrfs.OpenDirAt(f.dir, r.Name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	info, err := subvolume(dir)
	return info.ReadOnly && info.UUID.String() == r.Subvolume, err
}

// free gives the bytes that an ordinary user can still write.
func (f *Folder) free() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.dir.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstatfs", err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// readNames gives the names in a directory, sorted.
func readNames(dir *os.File, path string) ([]string, error) {
	d, err := btrfs.OpenDirAt(dir, path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
