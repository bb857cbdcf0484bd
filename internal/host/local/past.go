package local

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/past"
)

// Changes lets the kernel make the stream of the difference, without data.
func (d *Dir) Changes(ctx context.Context, o host.ChangesOrder, each func(changes.Change)) error {
	newer, err := d.openSubvolume(o.Name)
	if err != nil {
		return err
	}
	defer newer.Close()
	options, is := btrfs.SendOptions{NoData: true}, past.Look(newer)
	var was changes.Tree
	if o.From != "" {
		if options.Parent, err = d.host.openFile(o.From); err != nil {
			return err
		}
		defer options.Parent.Close()
		before := past.Look(options.Parent)
		defer before.Close()
		was = before
	}
	defer is.Close()
	if err := past.CheckComparable(newer, options.Parent); err != nil {
		return err
	}
	var all []changes.Change
	err = d.host.sendByKernel(ctx, newer, options, func(r io.Reader) error {
		all, err = changes.Of(r, was, is)
		return err
	})
	if err != nil {
		return fmt.Errorf("comparing %s: %w", filepath.Join(d.status.Path, o.Name), past.NeedRoot(err))
	}
	for _, c := range all {
		each(c)
	}
	return ctx.Err()
}

// Manifest writes the manifest as it is on the disk.
func (d *Dir) Manifest(_ context.Context, name string, w io.Writer) error {
	s, err := btrfs.InfoAt(d.dir, name)
	if err != nil {
		s = btrfs.Subvolume{}
	}
	return d.trees().CopyManifest(name, s.UUID, w)
}

// Versions looks into the snapshots and backups.
func (d *Dir) Versions(ctx context.Context, o past.Order) ([]past.Version, error) {
	return past.Versions(ctx, d.dir, o)
}
