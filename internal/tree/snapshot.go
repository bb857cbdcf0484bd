package tree

import (
	"context"
	"errors"
	"os"

	"btrfs-backup/btrfs"

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

// prepareSnapshot makes the directory a snapshot of the subvolume, in place of a partial copy.
func (s *start) prepareSnapshot(ctx context.Context, subvolume *os.File, partial string) (Work, error) {
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
