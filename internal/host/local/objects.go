package local

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

var _ host.Objects = (*Host)(nil)

// OpenObjects opens a folder of objects, on any filesystem.
func (h *Host) OpenObjects(_ context.Context, path string) (object.Bucket, io.Closer, error) {
	dir, err := h.openFile(path)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	f, err := object.FolderAt(dir, path)
	if err != nil {
		return nil, nil, err
	}
	return f, f, nil
}

// Objects gives the directory as a folder of objects, which must be closed.
func (d *Dir) Objects() (*object.Folder, error) { return object.FolderAt(d.dir, d.status.Path) }
