package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
)

func (d *Dir) Relatives(ctx context.Context, of []btrfs.UUID) (host.Content, error) {
	return d.list(of)
}

func (d *Dir) Replace(ctx context.Context, o replace.Order) (replace.Report, error) {
	if d.host.confine != nil {
		return replace.Report{}, errors.New("refused within a part of the machine")
	}
	mount, err := host.MountOf(d.dir)
	if err != nil {
		return replace.Report{}, err
	}
	if mount == nil {
		return replace.Report{}, fmt.Errorf("%s: the kernel does not tell where it is mounted", d.status.Path)
	}
	top, _, err := d.mountWhole(mount)
	if err != nil {
		return replace.Report{}, fmt.Errorf("mounting the whole filesystem of %s: %w", d.status.Path, err)
	}
	defer top.Close()
	root, err := btrfs.OpenDirAt(top, ".") // the mount is no more than a path
	if err != nil {
		return replace.Report{}, err
	}
	defer root.Close()
	return replace.Do(ctx, replace.ThisMachine, root, d.dir, o)
}
