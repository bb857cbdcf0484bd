// Package space tells what deleting entries of a directory would free: snapshots and backups, as subvolumes or as directories of hard
// links. It changes nothing.
package space

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/exclusive"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Unknown is in place of a number of bytes that could not be told.
const Unknown = -1

// Freed tells for each group of names how many bytes of data deleting all of them together would free; Unknown where one is gone, where
// this user may not see it, and where it would take longer than within for all of them, which is no limit if it is 0. What has hard
// links takes long: it is not begun with a limit.
func Freed(ctx context.Context, dir *os.File, groups [][]string, within time.Duration) ([]int64, error) {
	if within > 0 {
		limited, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		ctx = limited
	}
	free := make([]int64, len(groups))
	one := func(names []string) (int64, error) { return linked(ctx, dir, names) }
	subvolumes, err := exclusive.New(dir)
	switch {
	case err == nil:
		one = func(names []string) (int64, error) { return unshared(ctx, dir, subvolumes, names) }
	case errors.Is(err, fs.ErrPermission) || within > 0:
		for i := range free {
			free[i] = Unknown
		}
		return free, nil
	case !errors.Is(err, btrfs.ErrNotBtrfs):
		return nil, err
	}
	errs := make([]error, len(groups))
	each(len(groups), func(i int) {
		if free[i], errs[i] = one(groups[i]); errs[i] != nil {
			free[i] = Unknown
		}
	})
	for _, err := range errs {
		if err != nil && !isUnknown(err) {
			return nil, err
		}
	}
	return free, nil
}

func isUnknown(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, btrfs.ErrNotSubvolume) // a directory on btrfs
}

// each does the same for all numbers up to n, on a few CPUs, in their order.
func each(n int, do func(i int)) {
	next := make(chan int)
	var working sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 4) {
		working.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	working.Wait()
}

func unshared(ctx context.Context, dir *os.File, subvolumes *exclusive.Space, names []string) (int64, error) {
	var ids []uint64
	for _, name := range names {
		sub, err := btrfs.OpenDirAt(dir, name)
		if err != nil {
			return 0, err
		}
		info, err := btrfs.Info(sub)
		if err == nil {
			err = btrfs.CheckSubvolume(sub)
		}
		sub.Close()
		if err != nil {
			return 0, err
		}
		ids = append(ids, info.ID)
	}
	return subvolumes.Exclusive(ctx, ids...)
}

// linked adds up the files all of whose names are within the directories with these names.
func linked(ctx context.Context, dir *os.File, names []string) (bytes int64, err error) {
	type file struct{ filesystem, inode uint64 }
	missing := make(map[file]uint32) // names of files that were not seen yet
	for _, name := range names {
		sub, err := btrfs.OpenDirAt(dir, name)
		if err != nil {
			return 0, err
		}
		err = walk.Tree(ctx, sub, walk.Visitor{
			Visit: func(f walk.File) error {
				at := file{f.Filesystem, f.Inode}
				left, seen := missing[at]
				if !seen {
					left = uint32(f.Links)
				}
				switch {
				case f.Type == manifest.Directory || left <= 1:
					bytes += f.Allocated
					delete(missing, at)
				default:
					missing[at] = left - 1
				}
				return nil
			},
			Closed: func(path string, err error) error {
				if errors.Is(err, unix.EXDEV) {
					return nil
				}
				return fmt.Errorf("%s/%s: %w", sub.Name(), path, err)
			},
			Lost: func(string, error) error { return nil },
		})
		sub.Close()
		if err != nil {
			return 0, err
		}
	}
	return bytes, nil
}
