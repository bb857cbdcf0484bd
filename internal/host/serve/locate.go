package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

func (s *server) locate(ctx context.Context, path string) (host.Location, error) {
	return s.local.Locate(ctx, path)
}
