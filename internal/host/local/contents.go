package local

import (
	"context"
	"io"

	"btrfs-backup/internal/tree"
	"btrfs-backup/internal/tree/received"
)

func (d *Dir) VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	return d.trees().Verify(ctx, name, o, found, progress)
}

func (d *Dir) DescribeTree(ctx context.Context, to io.Writer, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	return received.In(d.dir).Describe(ctx, to, found, progress)
}
