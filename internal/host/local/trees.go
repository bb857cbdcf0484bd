package local

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// OpenTrees opens a folder of backups of directory trees, on any filesystem.
func (h *Host) OpenTrees(_ context.Context, path string, o tree.OpenOptions) (*host.TreeDir, error) {
	d, err := h.OpenTreesDir(path, o)
	if err != nil {
		return nil, err
	}
	return &host.TreeDir{
		Folder:      d,
		Files:       d,
		TreeBackups: d,
		TreeWriter:  d,
		TreeReader:  d,
		Contents:    d,
		TreeRecords: d,
	}, nil
}

// OpenTreesDir is OpenTrees, as OpenDir is Open.
func (h *Host) OpenTreesDir(path string, o tree.OpenOptions) (*Dir, error) {
	dir, err := tree.Open(path, o)
	if err != nil {
		return nil, err
	}
	d := &Dir{host: h, dir: dir}
	if d.status, err = describe(dir); err != nil {
		dir.Close()
		return nil, err
	}
	return d, nil
}

func (d *Dir) trees() *tree.Folder { return tree.New(d.dir, d.host.log) }

func (d *Dir) ListTrees(ctx context.Context) (tree.Listing, error) { return d.trees().List(ctx) }

func (d *Dir) MarkTrees(ctx context.Context) (id string, err error) { return d.trees().Mark(ctx) }

func (d *Dir) BeginTree(ctx context.Context, o tree.Order) (tree.Work, error) {
	return d.trees().Begin(ctx, o)
}

func (d *Dir) GrowTree(ctx context.Context, g tree.Growth) error { return d.trees().Grow(ctx, g) }

func (d *Dir) SavePartialTree(ctx context.Context, name string) error {
	return d.trees().SavePartial(ctx, name)
}

func (d *Dir) FollowTree(ctx context.Context, name string) error {
	return d.trees().Follow(ctx, name)
}

func (d *Dir) FinishTree(ctx context.Context, r tree.Result, progress func(bytes int64)) (tree.Record, error) {
	return d.trees().Finish(ctx, r, progress)
}

func (d *Dir) DeleteTrees(ctx context.Context, names []string) (deleted []string, err error) {
	return d.trees().Delete(ctx, names)
}

func (d *Dir) ExportTree(ctx context.Context, name string, w io.Writer) error {
	return d.trees().Export(ctx, name, w)
}

func (d *Dir) IndexTrees(ctx context.Context, o tree.IndexOptions) (tree.Indexed, error) {
	return d.trees().Index(ctx, o)
}
