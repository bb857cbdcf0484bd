package agent

import (
	"context"

	"btrfs-backup/internal/host"
	"btrfs-backup/internal/host/protocol"
)

var _ host.Locator = (*Host)(nil)

// Locate tells what a path there means.
func (h *Host) Locate(ctx context.Context, path string) (host.Location, error) {
	return protocol.Locate.Call(ctx, h, path)
}
