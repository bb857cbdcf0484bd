package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func (s *server) verifyTree(ctx context.Context, d *local.Dir, c protocol.VerifyTreeCall, tell func(protocol.VerifyNotice)) (tree.Verified, error) {
	told, found, progress := noticing(tell)
	defer told.flush()
	return d.VerifyTree(ctx, c.Name, c.Options, found, progress)
}

func (s *server) describeTree(ctx context.Context, d *local.Dir, _ protocol.Dir, tell func(protocol.DescribeNotice)) (tree.Verified, error) {
	told, found, progress := noticing(func(n protocol.VerifyNotice) { tell(protocol.DescribeNotice{VerifyNotice: n}) })
	defer told.flush()
	return d.DescribeTree(ctx, pieces(func(p []byte) { tell(protocol.DescribeNotice{Manifest: p}) }), found, progress)
}

func (s *server) makeManifest(ctx context.Context, d *local.Dir, c protocol.NameCall) (none protocol.Nothing, err error) {
	return none, d.MakeManifest(ctx, c.Name)
}

// noticing collects what is found, and how far it is, in notices.
func noticing(tell func(protocol.VerifyNotice)) (told *batch[protocol.VerifyNotice], found func(tree.Difference), progress func(read, total int64)) {
	told = &batch[protocol.VerifyNotice]{tell: tell, full: func(n protocol.VerifyNotice) bool { return len(n.Found) >= maxDifferences }}
	found = func(diff tree.Difference) {
		told.change(func(n *protocol.VerifyNotice) { n.Found = append(n.Found, diff) })
	}
	progress = func(read, total int64) {
		told.change(func(n *protocol.VerifyNotice) { n.Read, n.Total = read, total })
	}
	return told, found, progress
}

// maxDifferences is how many a notice holds.
const maxDifferences = 256
