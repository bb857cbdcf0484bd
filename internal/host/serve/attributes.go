package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (s *server) attributes(ctx context.Context, d *local.Dir, c protocol.AttributesCall) ([]byte, error) {
	l, err := d.Attributes(ctx, c.Name, c.Parent)
	if err != nil {
		return nil, err
	}
	return l.Encode()
}

func (s *server) setAttributes(ctx context.Context, d *local.Dir, c protocol.SetAttributesCall) (r attributes.Report, err error) {
	l, err := attributes.Decode(c.List)
	if err != nil {
		return r, err
	}
	return d.SetAttributes(ctx, c.Name, l)
}
