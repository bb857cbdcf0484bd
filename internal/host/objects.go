package host

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// Objects is a Host that can keep objects in its folders; see package object for what buckets promise.
type Objects interface {
	Host
	// OpenObjects opens a folder of objects, which must be closed. A missing one is fs.ErrNotExist.
	OpenObjects(ctx context.Context, path string) (object.Bucket, io.Closer, error)
}

// Bucket opens a folder of a machine as a bucket. It must be closed, and closing ends no connection. A missing folder is
// fs.ErrNotExist: see MkdirAll.
func Bucket(ctx context.Context, h Host, path string) (object.Bucket, io.Closer, error) {
	keeps, ok := h.(Objects)
	if !ok {
		return nil, nil, fmt.Errorf("opening %s%s: %w", h, path, errors.ErrUnsupported)
	}
	return keeps.OpenObjects(ctx, path)
}
