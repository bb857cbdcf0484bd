package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
)

// Content is what a folder holds.
type Content struct {
	Folder     string
	Subvolumes []btrfs.Subvolume
	Sizes      map[uint64]btrfs.Size // by subvolume ID, where known
}

// List lists a place: the snapshot folder of a source if there is one, else the place itself.
func List(_ context.Context, place, snapshotFolder string) (Content, error) {
	path, err := filepath.Abs(place)
	if err != nil {
		return Content{}, err
	}
	if !filepath.IsAbs(snapshotFolder) {
		snapshotFolder = filepath.Join(path, snapshotFolder)
	}
	if info, err := os.Stat(snapshotFolder); err == nil && info.IsDir() {
		path = snapshotFolder
	}
	dir, err := os.Open(path)
	if err != nil {
		return Content{}, engine.Hint(err, "name the folder of a destination, or a source")
	}
	defer dir.Close()
	if err := btrfs.CheckFilesystem(dir); err != nil {
		return Content{}, engine.Hint(fmt.Errorf("%s: %w", path, err), "is its disk mounted?")
	}
	listing, err := btrfs.List(dir)
	if err != nil {
		return Content{}, err
	}
	sizes, err := btrfs.Sizes(dir)
	return Content{Folder: path, Subvolumes: listing.InDirectory, Sizes: sizes}, err
}
