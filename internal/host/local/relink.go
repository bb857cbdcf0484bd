package local

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/relink"
)

func (d *Dir) Relink(_ context.Context, o relink.Order) error { return d.relinking().Relink(o) }

func (d *Dir) relinking() relink.Folder {
	return relink.Folder{Dir: d.dir, Unnoted: func(err error) { d.host.log.Warn(err.Error()) }, Record: func(name string, origin btrfs.UUID) error {
		return d.records().Add(name, host.Origin{Subvolume: origin}, nil)
	}}
}
