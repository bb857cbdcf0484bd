package agent

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (d *dir) Attributes(ctx context.Context, name, parent string) (l attributes.List, err error) {
	encoded, err := protocol.Attributes.Call(ctx, d.host, protocol.AttributesCall{Dir: d.name(), Name: name, Parent: parent})
	if err != nil {
		return l, err
	}
	return attributes.Decode(encoded)
}

func (d *dir) SetAttributes(ctx context.Context, name string, l attributes.List) (r attributes.Report, err error) {
	encoded, err := l.Encode()
	if err != nil {
		return r, err
	}
	return protocol.SetAttributes.Call(ctx, d.host, protocol.SetAttributesCall{Dir: d.name(), Name: name, List: encoded})
}
