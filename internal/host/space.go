package host

import (
	"context"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/space"
)

// UnknownSpace is in place of a number of bytes that could not be told.
const UnknownSpace = space.Unknown

// Space is what the entries of a directory take on the disk.
type Space interface {
	// Freed tells for each group of names how many bytes of data deleting all of them together would free; see space.Freed.
	Freed(ctx context.Context, groups [][]string, within time.Duration) ([]int64, error)
}
