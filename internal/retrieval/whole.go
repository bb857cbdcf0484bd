package retrieval

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// IsTree tells that all of a backup comes back as files: it is a copy, and no subvolume, or its target is where there are none.
func IsTree(ctx context.Context, b inventory.Found, h host.Trees, target string) (bool, error) {
	if b.Subvolume.ID == 0 || !b.Tree {
		return b.Subvolume.ID == 0, nil
	}
	status, _, err := standing(ctx, h, target)
	return !status.Btrfs, err
}

// NoSubvolume refuses what is asked for of subvolumes alone.
func NoSubvolume(b inventory.Found, to Target) error {
	return hint.New(fmt.Errorf("%s comes back as files: --in-place and the options about snapshots are for subvolumes", b),
		"leave them out to restore to a new directory; to write into one that is there: "+into(b, to)+" --overwrite")
}

// into gives the command to restore all files of a backup into a directory.
func into(b inventory.Found, to Target) string {
	return "btrfs-backup restore " + transport.Quote(b.String(), "--path", ".", "--to", to.String())
}

// String names it as people know it.
func (t Target) String() string { return host.PlaceName(t.Host.String() + t.Dir) }

// standing describes a directory or, if it is missing, the nearest one above it.
func standing(ctx context.Context, h host.Trees, at string) (s host.Status, exists bool, err error) {
	dir, err := h.Open(ctx, at)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = host.Above(ctx, h, at)
		return s, false, err
	}
	if err != nil {
		return s, false, err
	}
	return dir.Status(), true, dir.Close()
}

// Tree gives the order to make a directory what all of a backup is. It is missing, and gets its name when it is complete, or it is empty.
func Tree(ctx context.Context, o Order, to Target) (Order, error) {
	if err := CheckBackup(o.Backup); err != nil {
		return o, err
	}
	o.Paths = []string{"."}
	name := to.String()
	s, exists, err := standing(ctx, to.Host, to.Dir)
	switch {
	case err != nil:
		return o, fmt.Errorf("target %s: %w", name, hint.WithoutPath(err, to.Dir))
	case exists && !s.Empty:
		return o, hint.New(fmt.Errorf("target %s: is there already, and not empty", name),
			"name a new directory; to write into this one: "+into(o.Backup, to))
	case !exists && s.Path != path.Dir(to.Dir):
		return o, hint.New(fmt.Errorf("target %s: %w", name, &fs.PathError{Op: "open", Path: path.Dir(to.Dir), Err: fs.ErrNotExist}),
			"is its disk mounted? If so, make the directory first: mkdir -p "+transport.Quote(path.Dir(to.Dir)))
	}
	above, _, err := standing(ctx, to.Host, path.Dir(to.Dir))
	if err != nil {
		return o, err
	}
	o.To, o.Name = to, "."
	if !s.IsRoot && above.DirID.Filesystem == s.DirID.Filesystem || !exists { // else it cannot be replaced
		o.To.Dir, o.Name = path.Dir(to.Dir), path.Base(to.Dir)
	}
	return o, nil
}
