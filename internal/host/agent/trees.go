package agent

import (
	"cmp"
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// OpenTrees opens a folder of backups of directory trees.
func (h *Host) OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (*host.TreeDir, error) {
	status, err := protocol.OpenTrees.Call(ctx, h, protocol.OpenTreesCall{Path: path, Options: o})
	if err != nil {
		return nil, err
	}
	d := &dir{h, status}
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

func (d *dir) ListTrees(ctx context.Context) (tree.Listing, error) {
	return protocol.ListTrees.Call(ctx, d.host, d.name())
}

func (d *dir) MarkTrees(ctx context.Context) (id string, err error) {
	return protocol.MarkTrees.Call(ctx, d.host, d.name())
}

func (d *dir) BeginTree(ctx context.Context, o tree.Order) (tree.Work, error) {
	return protocol.BeginTree.Call(ctx, d.host, protocol.BeginTreeCall{Dir: d.name(), Order: o})
}

func (d *dir) GrowTree(ctx context.Context, g tree.Growth) error {
	_, err := protocol.GrowTree.Call(ctx, d.host, protocol.GrowTreeCall{Dir: d.name(), Growth: g})
	return err
}

func (d *dir) SavePartialTree(ctx context.Context, name string) error {
	_, err := protocol.SavePartialTree.Call(ctx, d.host, d.named(name))
	return err
}

func (d *dir) FollowTree(ctx context.Context, name string) error {
	_, err := protocol.FollowTree.Call(ctx, d.host, d.named(name))
	return err
}

// FinishTree ends with the connection, on the far side too. What was copied stays for the next run to go on with.
func (d *dir) FinishTree(ctx context.Context, r tree.Result, progress func(bytes int64)) (tree.Record, error) {
	return protocol.FinishTree.CallTold(ctx, d.host, protocol.FinishTreeCall{Dir: d.name(), Result: r}, progress)
}

func (d *dir) DeleteTrees(ctx context.Context, names []string) (deleted []string, err error) {
	reply, err := protocol.DeleteTrees.Call(ctx, d.host, protocol.DeleteTreesCall{Dir: d.name(), Names: names})
	if err != nil {
		return nil, err
	}
	return reply.Unpack()
}

func (d *dir) ExportTree(ctx context.Context, name string, w io.Writer) error {
	to := pieces{to: w}
	_, err := protocol.ExportTree.CallTold(ctx, d.host, d.named(name), to.write)
	return cmp.Or(err, to.err)
}

func (d *dir) IndexTrees(ctx context.Context, o tree.IndexOptions) (tree.Indexed, error) {
	return protocol.IndexTrees.CallTold(ctx, d.host, d.name(), o.Progress)
}
