package agent

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

var _ host.Locator = (*Host)(nil)

// Locate tells what a path there means.
func (h *Host) Locate(ctx context.Context, path string) (host.Location, error) {
	return protocol.Locate.Call(ctx, h, path)
}
