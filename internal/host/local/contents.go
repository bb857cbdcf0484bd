package local

import (
	"context"
	"io"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/received"
)

func (d *Dir) VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	name, err := d.trees().Resolve(name)
	if err != nil {
		return tree.Verified{}, err
	}
	if info, err := d.Subvolume(name); err == nil && !info.ReceivedUUID.IsZero() {
		if o.Since, o.Only, err = d.since(ctx, name, o); err != nil {
			return tree.Verified{}, err
		}
	}
	return d.trees().Verify(ctx, name, o, found, progress)
}

// mostChanged is how many changed files are worth to be told from the others.
const mostChanged = 200_000

// since gives the verified backup that another one is verified upon, and the files whose contents differ from it. Without such a backup,
// all are read.
func (d *Dir) since(ctx context.Context, name string, o tree.VerifyOptions) (base string, only map[string]struct{}, err error) {
	if base = o.Since; o.Fast && base == "" {
		content, err := d.List(ctx)
		if err != nil {
			return "", nil, err
		}
		origins, _, _ := content.Recorded(d.status.Path) // without them only ancestors are known
		base = received.In(d.dir).Base(name, content.InDirectory, func(a, b btrfs.Subvolume) bool {
			from, known := origins[b.ReceivedUUID]
			return known && origins[a.ReceivedUUID] == from || a.UUID == b.ParentUUID || b.UUID == a.ParentUUID
		})
	}
	switch base {
	case "":
		return "", nil, nil
	case name:
		return base, map[string]struct{}{}, nil
	}
	if err := d.MustHold(base); err != nil {
		return "", nil, err
	}
	only = make(map[string]struct{})
	err = d.Changes(ctx, host.ChangesOrder{Name: name, From: filepath.Join(d.status.Path, base)}, func(c changes.Change) {
		if c.Content || c.Kind == changes.Created {
			only[c.Path] = struct{}{}
		}
	})
	if err != nil || len(only) > mostChanged {
		return "", nil, err
	}
	return base, only, nil
}

func (d *Dir) DescribeTree(ctx context.Context, to io.Writer, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	return received.In(d.dir).Describe(ctx, to, found, progress)
}

func (d *Dir) MakeManifest(ctx context.Context, name string) error {
	subvolume, err := d.openSubvolume(name)
	if err != nil {
		return err
	}
	defer subvolume.Close()
	return received.In(d.dir).Make(ctx, subvolume)
}
