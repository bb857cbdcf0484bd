package local

import (
	"context"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/space"
)

func (d *Dir) Freed(ctx context.Context, groups [][]string, within time.Duration) ([]int64, error) {
	return space.Freed(ctx, d.dir, groups, within)
}
