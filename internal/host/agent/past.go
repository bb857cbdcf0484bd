package agent

import (
	"context"

	"btrfs-backup/internal/changes"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/host/protocol"
)

func (d *dir) Changes(ctx context.Context, o host.ChangesOrder, each func(changes.Change)) error {
	_, err := protocol.Changes.CallTold(ctx, d.host, protocol.ChangesCall{Dir: d.name(), Order: o}, func(some []changes.Change) {
		for _, c := range some {
			each(c)
		}
	})
	return err
}
