package set

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

// In gives the sets in the directory at an absolute path, without unfinished ones. What is no directory has none.
func In(ctx context.Context, h host.Host, dir string) ([]host.Set, error) {
	f := NewFolder(h, dir)
	sets, err := f.list(ctx)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return slices.DeleteFunc(sets, host.Set.Unfinished), err
}

// Backups gives the paths of all backups that a path stands for: those of a set, or of all sets in a directory, or the path itself.
func Backups(ctx context.Context, h host.Host, at string) ([]string, error) {
	at = path.Clean(at)
	if _, dated := engine.NamingOf(path.Base(at)); dated {
		sets, err := In(ctx, h, path.Dir(at))
		for _, s := range sets {
			if s.Name == path.Base(at) {
				return backupsOf(path.Dir(at), s), nil
			}
		}
		return []string{at}, ignoreMissing(err)
	}
	sets, err := In(ctx, h, at)
	if err != nil || len(sets) == 0 {
		return []string{at}, ignoreMissing(err)
	}
	var all []string
	for _, s := range sets {
		all = append(all, backupsOf(at, s)...)
	}
	return all, nil
}

func backupsOf(dir string, s host.Set) (all []string) {
	for _, member := range s.Members {
		all = append(all, path.Join(dir, member, s.Name))
	}
	return all
}

// ignoreMissing leaves it to whoever opens the path to tell that it is not there.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
