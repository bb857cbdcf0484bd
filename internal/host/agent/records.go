package agent

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func (d *dir) Continue(ctx context.Context, c host.Continuation) error {
	_, err := protocol.Continue.Call(ctx, d.host, protocol.ContinueCall{Dir: d.name(), Continuation: c})
	return err
}

func (d *dir) ContinueTrees(ctx context.Context, source tree.Origin, older []tree.Origin) error {
	_, err := protocol.ContinueTrees.Call(ctx, d.host, protocol.ContinueTreesCall{Dir: d.name(), Source: source, Older: older})
	return err
}
