package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A filesystem limits the names of a file (65,000 on ext4). rsync copies a file of the base that has so many already, but gives
// up when the limit comes while it links further names. So such a file gets all the names that it can have beforehand, in a
// directory for that, until the backup is finished.

// fullDir is that directory, in state.Dir.
const fullDir = "full"

// maxNames gives the most names that a file in the base has.
func (s *start) maxNames(ctx context.Context) (most uint64, err error) {
	err = s.eachOfBase(ctx, func(f walk.File) error {
		most = max(most, f.Links)
		return nil
	})
	return most, err
}

// fill gives all names that they can have to the files of the base that could not take twice the names that they have in it.
func (s *start) fill(ctx context.Context, most uint64) error {
	names, path := make(map[uint64]uint64), make(map[uint64]string) // by inode
	links := make(map[uint64]uint64)
	err := s.eachOfBase(ctx, func(f walk.File) error {
		if 3*f.Links > most { // names*2 + links > most, where names <= links
			names[f.Inode]++
			path[f.Inode], links[f.Inode] = f.Path, f.Links
		}
		return nil
	})
	if err != nil {
		return err
	}
	base, err := btrfs.OpenDirAt(s.dir, s.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	into, err := s.makeFullDir()
	if err != nil {
		return err
	}
	defer into.Close()
	n := 0
	for inode, its := range names {
		for full := links[inode]+2*its <= most; !full; n++ {
			err := unix.Linkat(int(base.Fd()), path[inode], int(into.Fd()), strconv.Itoa(n), 0)
			full = errors.Is(err, unix.EMLINK)
			if err != nil && !full {
				return fmt.Errorf("linking %s: %w", s.pathOf(s.Base)+"/"+path[inode], err)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

func (s *start) makeFullDir() (*os.File, error) {
	parent, err := btrfs.OpenDirAt(s.dir, state.Dir)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), fullDir, 0o700); err != nil {
		return nil, fmt.Errorf("making %s: %w", s.state.Path(fullDir), err)
	}
	return btrfs.OpenDirAt(parent, fullDir)
}

// eachOfBase tells the regular files of the base.
func (s *start) eachOfBase(ctx context.Context, visit func(walk.File) error) error {
	base, err := btrfs.OpenDirAt(s.dir, s.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	return walk.Tree(ctx, base, walk.Visitor{
		Visit: func(f walk.File) error {
			if f.Type != manifest.Regular {
				return nil
			}
			return visit(f)
		},
		Closed: func(string, error) error { return nil },
	})
}

// dropFull removes the names that fill gave.
func (f *Folder) dropFull(ctx context.Context) error {
	parent, err := btrfs.OpenDirAt(f.dir, state.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := walk.Remove(ctx, parent, fullDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", f.state.Path(fullDir), err)
	}
	return nil
}
