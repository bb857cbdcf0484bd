package agent

import (
	"cmp"
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/past"
)

func (d *dir) Changes(ctx context.Context, o host.ChangesOrder, each func(changes.Change)) error {
	_, err := protocol.Changes.CallTold(ctx, d.host, protocol.ChangesCall{Dir: d.name(), Order: o}, func(some []changes.Change) {
		for _, c := range some {
			each(c)
		}
	})
	return err
}

func (d *dir) Manifest(ctx context.Context, name string, w io.Writer) error {
	to := pieces{to: w}
	_, err := protocol.Manifest.CallTold(ctx, d.host, d.named(name), to.write)
	return cmp.Or(err, to.err)
}

func (d *dir) Versions(ctx context.Context, o past.Order) ([]past.Version, error) {
	return protocol.Versions.Call(ctx, d.host, protocol.VersionsCall{Dir: d.name(), Order: o})
}
