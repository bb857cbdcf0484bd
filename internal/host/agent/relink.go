package agent

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/relink"
)

func (d *dir) Relink(ctx context.Context, o relink.Order) error {
	_, err := protocol.Relink.Call(ctx, d.host, protocol.RelinkCall{Dir: d.name(), Order: o})
	return err
}
