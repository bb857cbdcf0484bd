package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func (s *server) openTrees(_ context.Context, c protocol.OpenTreesCall) (host.Status, error) {
	d, err := s.local.OpenTreesDir(c.Path, c.Options)
	if err != nil {
		return host.Status{}, err
	}
	return d.Status(), d.Close()
}

func (s *server) listTrees(ctx context.Context, d *local.Dir, _ protocol.Dir) (tree.Listing, error) {
	return d.ListTrees(ctx)
}

func (s *server) markTrees(ctx context.Context, d *local.Dir, _ protocol.Dir) (string, error) {
	return d.MarkTrees(ctx)
}

func (s *server) beginTree(ctx context.Context, d *local.Dir, c protocol.BeginTreeCall) (tree.Work, error) {
	return d.BeginTree(ctx, c.Order)
}

func (s *server) growTree(ctx context.Context, d *local.Dir, c protocol.GrowTreeCall) (none protocol.Nothing, err error) {
	return none, d.GrowTree(ctx, c.Growth)
}

func (s *server) savePartialTree(ctx context.Context, d *local.Dir, c protocol.NameCall) (none protocol.Nothing, err error) {
	return none, d.SavePartialTree(ctx, c.Name)
}

func (s *server) followTree(ctx context.Context, d *local.Dir, c protocol.NameCall) (none protocol.Nothing, err error) {
	return none, d.FollowTree(ctx, c.Name)
}

func (s *server) finishTree(ctx context.Context, d *local.Dir, c protocol.FinishTreeCall, tell func(protocol.BytesRead)) (tree.Record, error) {
	read := counting(tell)
	defer read.flush()
	made, err := d.FinishTree(ctx, c.Result, read.add)
	if err == nil && s.o.Finished != nil {
		err = s.o.Finished(ctx, d, made)
	}
	return made, err
}

func (s *server) indexTrees(ctx context.Context, d *local.Dir, _ protocol.Dir, tell func(protocol.BytesRead)) (tree.Indexed, error) {
	read := counting(tell)
	defer read.flush()
	return d.IndexTrees(ctx, tree.IndexOptions{Progress: read.add})
}

func (s *server) deleteTrees(ctx context.Context, d *local.Dir, c protocol.DeleteTreesCall) (protocol.DeleteReply, error) {
	return protocol.NewDeleteReply(d.DeleteTrees(ctx, c.Names)), nil
}

func (s *server) exportTree(ctx context.Context, d *local.Dir, c protocol.NameCall, tell func([]byte)) (none protocol.Nothing, err error) {
	return none, d.ExportTree(ctx, c.Name, pieces(tell))
}

// pieces is a writer that tells what is written to it.
type pieces func([]byte)

func (tell pieces) Write(p []byte) (int, error) {
	tell(p)
	return len(p), nil
}
