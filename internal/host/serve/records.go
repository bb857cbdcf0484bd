package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (s *server) continues(ctx context.Context, d *local.Dir, c protocol.ContinueCall) (none protocol.Nothing, err error) {
	return none, d.Continue(ctx, c.Continuation)
}

func (s *server) continuesTrees(ctx context.Context, d *local.Dir, c protocol.ContinueTreesCall) (none protocol.Nothing, err error) {
	return none, d.ContinueTrees(ctx, c.Source, c.Older)
}
