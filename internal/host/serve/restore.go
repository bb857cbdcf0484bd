package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
)

func (s *server) relatives(ctx context.Context, d *local.Dir, c protocol.RelativesCall) (protocol.ListReply, error) {
	content, err := d.Relatives(ctx, c.Of)
	if err != nil {
		return protocol.ListReply{}, err
	}
	return s.listReply(d, content), nil
}

func (s *server) replace(ctx context.Context, d *local.Dir, c protocol.ReplaceCall) (replace.Report, error) {
	return d.Replace(ctx, c.Order)
}
