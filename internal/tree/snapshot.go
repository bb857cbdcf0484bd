package tree

import (
	"context"
	"errors"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// subvolumeAt opens the subvolume whose snapshot the backup is to be. It is nil if there is none on the folder's filesystem.
func (s *start) subvolumeAt(path string) (*os.File, error) {
	if path == "" || !s.onBtrfs {
		return nil, nil
	}
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := s.checkSnapshotOf(dir); err != nil {
		dir.Close()
		if errors.Is(err, btrfs.ErrNotBtrfs) || errors.Is(err, btrfs.ErrNotSubvolume) || errors.Is(err, unix.EXDEV) {
			return nil, nil
		}
		return nil, err
	}
	return dir, nil
}

func (s *start) checkSnapshotOf(dir *os.File) error {
	if err := btrfs.CheckSubvolume(dir); err != nil {
		return err
	}
	there, err := btrfs.FilesystemID(dir)
	if err != nil {
		return err
	}
	here, err := btrfs.FilesystemID(s.dir)
	if err == nil && here != there {
		err = unix.EXDEV
	}
	return err
}

// checkChanged refuses a subvolume to which nothing was written since the base was made a snapshot of it. That something was
// written need not mean that it differs.
func (s *start) checkChanged(subvolume *os.File) error {
	if ours, err := s.hasBaseOf(s.Base, s.Origin, true); err != nil || !s.OnlyChanges || !ours {
		return err
	}
	if err := btrfs.SyncFilesystem(s.dir); err != nil { // else what is in memory only has not changed the subvolume yet
		return err
	}
	now, err := btrfs.Info(subvolume)
	if err != nil {
		return err
	}
	base, err := btrfs.InfoAt(s.dir, s.Base)
	if err == nil && base.ParentUUID == now.UUID && now.ChangedIn <= base.CreatedIn {
		err = ErrUnchanged
	}
	return err
}

// hasBaseOf tells whether a base is a backup of that origin, and as complete as what is to be one.
func (f *Folder) hasBaseOf(base string, of Origin, complete bool) (bool, error) {
	if base == "" {
		return false, nil
	}
	r, err := f.backup(base)
	if errors.Is(err, errNotBackup) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	continued, err := f.resolved()
	return (r.Complete() || !complete) && continued.as(r.Origin).Same(of), err
}

// prepareSnapshot makes the directory a snapshot of the subvolume, in place of a partial copy.
func (s *start) prepareSnapshot(ctx context.Context, subvolume *os.File, partial string) (Work, error) {
	if err := s.checkChanged(subvolume); err != nil {
		return Work{}, err
	}
	if partial != "" {
		if err := s.removeHidden(ctx, partial); err != nil {
			return Work{}, err
		}
		delete(s.list, partial)
	}
	if err := s.checkHiddenFree(s.hidden); err != nil {
		return Work{}, err
	}
	make := func() error { return btrfs.SnapshotWritable(subvolume, s.dir, s.hidden) }
	return Work{Path: s.pathOf(s.hidden), Subvolume: true, Filled: true}, s.create(make)
}
