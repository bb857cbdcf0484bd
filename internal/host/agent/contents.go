package agent

import (
	"cmp"
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func (d *dir) VerifyTree(ctx context.Context, name string, o tree.VerifyOptions, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	call := protocol.VerifyTreeCall{Dir: d.name(), Name: name, Options: o}
	return protocol.VerifyTree.CallTold(ctx, d.host, call, func(n protocol.VerifyNotice) {
		pass(n, found, progress)
	})
}

// pass passes a notice on.
func pass(n protocol.VerifyNotice, found func(tree.Difference), progress func(read, total int64)) {
	for _, diff := range n.Found {
		found(diff)
	}
	if n.Total > 0 { // else it is only about what was found
		progress(n.Read, n.Total)
	}
}

// pieces are written until that fails.
type pieces struct {
	to  io.Writer
	err error
}

func (p *pieces) write(piece []byte) {
	if p.err == nil {
		_, p.err = p.to.Write(piece)
	}
}

func (d *dir) DescribeTree(ctx context.Context, to io.Writer, found func(tree.Difference), progress func(read, total int64)) (tree.Verified, error) {
	written := pieces{to: to}
	v, err := protocol.DescribeTree.CallTold(ctx, d.host, d.name(), func(n protocol.DescribeNotice) {
		written.write(n.Manifest)
		pass(n.VerifyNotice, found, progress)
	})
	return v, cmp.Or(err, written.err)
}

func (d *dir) MakeManifest(ctx context.Context, name string) error {
	_, err := protocol.MakeManifest.Call(ctx, d.host, d.named(name))
	return err
}
