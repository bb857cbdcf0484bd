package agent

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
)

func (d *dir) Relatives(ctx context.Context, of []btrfs.UUID) (host.Content, error) {
	reply, err := protocol.Relatives.Call(ctx, d.host, protocol.RelativesCall{Dir: d.name(), Of: of})
	if err != nil {
		return host.Content{}, err
	}
	return d.host.content(d.status.Path, reply)
}

func (d *dir) Replace(ctx context.Context, o replace.Order) (replace.Report, error) {
	return protocol.Replace.Call(ctx, d.host, protocol.ReplaceCall{Dir: d.name(), Order: o})
}
