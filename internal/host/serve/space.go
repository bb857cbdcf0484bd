package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (s *server) freed(ctx context.Context, d *local.Dir, c protocol.FreedCall) ([]int64, error) {
	return d.Freed(ctx, c.Groups, c.Within)
}
