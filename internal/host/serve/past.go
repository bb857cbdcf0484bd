package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/past"
)

// changes tells them piece by piece.
func (s *server) changes(ctx context.Context, d *local.Dir, c protocol.ChangesCall, tell func([]changes.Change)) (none protocol.Nothing, err error) {
	told := batch[[]changes.Change]{tell: tell, full: func(some []changes.Change) bool { return len(some) >= maxDifferences }}
	defer told.flush()
	return none, d.Changes(ctx, c.Order, func(c changes.Change) {
		told.change(func(some *[]changes.Change) { *some = append(*some, c) })
	})
}

func (s *server) manifest(ctx context.Context, d *local.Dir, c protocol.NameCall, tell func([]byte)) (none protocol.Nothing, err error) {
	return none, d.Manifest(ctx, c.Name, pieces(tell))
}

func (s *server) versions(ctx context.Context, d *local.Dir, c protocol.VersionsCall) ([]past.Version, error) {
	return d.Versions(ctx, c.Order)
}
