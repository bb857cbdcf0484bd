package agent

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (d *dir) ListSets(ctx context.Context) ([]host.Set, error) {
	return protocol.ListSets.Call(ctx, d.host, d.name())
}

func (d *dir) MakeSet(ctx context.Context, name string, members []string) error {
	_, err := protocol.MakeSet.Call(ctx, d.host, protocol.MakeSetCall{Dir: d.name(), Name: name, Members: members})
	return err
}

func (d *dir) RemoveSets(ctx context.Context, names []string) (removed []string, err error) {
	reply, err := protocol.RemoveSets.Call(ctx, d.host, protocol.RemoveSetsCall{Dir: d.name(), Names: names})
	if err != nil {
		return nil, err
	}
	return reply.Unpack()
}
