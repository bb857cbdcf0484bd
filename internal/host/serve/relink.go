package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (s *server) relink(ctx context.Context, d *local.Dir, c protocol.RelinkCall) (none protocol.Nothing, err error) {
	return none, d.Relink(ctx, c.Order)
}
