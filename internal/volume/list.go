package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

// Content is what a folder holds.
type Content struct {
	Folder     string
	Subvolumes []btrfs.Subvolume
	Sizes      map[uint64]btrfs.Size // by subvolume ID, where known
	Free       uint64                // bytes
}

// List lists the place at an absolute path: the snapshot folder of a source if there is one, else the place itself. The folder
// is relative to place unless it is absolute. Both are asked for at once, since a machine may be far away.
func List(ctx context.Context, h host.Host, place, snapshotFolder string) (Content, error) {
	if !path.IsAbs(snapshotFolder) {
		snapshotFolder = path.Join(place, snapshotFolder)
	}
	inner := make(chan Content, 1)
	innerErr := make(chan error, 1)
	go func() {
		c, err := list(ctx, h, path.Clean(snapshotFolder))
		inner <- c
		innerErr <- err
	}()
	outer, err := list(ctx, h, place)
	c, noInner := <-inner, <-innerErr
	if err != nil || errors.Is(noInner, fs.ErrNotExist) || errors.Is(noInner, unix.ENOTDIR) {
		return outer, err
	}
	return c, noInner
}

func list(ctx context.Context, h host.Host, folder string) (Content, error) {
	status, content, err := h.List(ctx, folder)
	name := engine.PlaceName(h.String() + folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Content{}, hint.New(err, "name the folder of a destination, or a source")
	case err != nil:
		return Content{}, err
	case !status.Btrfs:
		return Content{}, hint.New(fmt.Errorf("%s: %w", name, btrfs.ErrNotBtrfs), "is its disk mounted?")
	}
	return Content{Folder: name, Subvolumes: content.InDirectory, Sizes: content.Sizes, Free: content.Free}, nil
}
