package agent

import (
	"cmp"
	"context"
	"io"

	"btrfs-backup/internal/host/protocol"
	"btrfs-backup/internal/tree"
)

func (d *dir) VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	call := protocol.VerifyTreeCall{Dir: d.name(), Name: name, Options: o}
	return protocol.VerifyTree.CallTold(ctx, d.host, call, func(n protocol.VerifyNotice) {
		for _, diff := range n.Found {
			found(diff)
		}
		if n.Total > 0 { // else it is only about what was found
			progress(n.Read, n.Total)
		}
	})
}

func (d *dir) DescribeTree(ctx context.Context, to io.Writer, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	var writeErr error
	v, err := protocol.DescribeTree.CallTold(ctx, d.host, d.name(), func(n protocol.DescribeNotice) {
		if writeErr == nil {
			_, writeErr = to.Write(n.Manifest)
		}
		for _, diff := range n.Found {
			found(diff)
		}
		if n.Total > 0 {
			progress(n.Read, n.Total)
		}
	})
	return v, cmp.Or(err, writeErr)
}

func (d *dir) MakeManifest(ctx context.Context, name string) error {
	_, err := protocol.MakeManifest.Call(ctx, d.host, d.tree(name))
	return err
}
