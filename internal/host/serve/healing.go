package serve

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (s *server) findDamage(ctx context.Context, d *local.Dir, c protocol.NameCall, tell func(protocol.DamageNotice)) (heal.Searched, error) {
	told := batch[protocol.DamageNotice]{tell: tell, full: func(n protocol.DamageNotice) bool { return len(n.Found) >= maxDifferences }}
	defer told.flush()
	return heal.In(d.File()).FindDamage(ctx, c.Name, func(damage heal.Damage) {
		told.change(func(n *protocol.DamageNotice) { n.Found = append(n.Found, damage) })
	}, func(bytes int64) {
		told.change(func(n *protocol.DamageNotice) { n.Bytes += bytes })
	})
}

func (s *server) putBlockBack(ctx context.Context, d *local.Dir, c protocol.PieceCall) ([]heal.Copy, error) {
	return heal.In(d.File()).PutBlockBack(ctx, c.Name, c.Piece)
}

func (s *server) rewriteExtents(ctx context.Context, d *local.Dir, c protocol.PiecesCall) (heal.Rewritten, error) {
	return heal.In(d.File()).RewriteExtents(ctx, c.Name, c.Pieces)
}

func (s *server) cleanHealed(ctx context.Context, d *local.Dir, _ protocol.Dir) (none protocol.Nothing, err error) {
	return none, heal.In(d.File()).CleanHealed(ctx)
}

func (s *server) readPiece(ctx context.Context, d *local.Dir, c protocol.PieceCall) (heal.Piece, error) {
	return heal.In(d.File()).ReadPiece(ctx, c.Name, c.Piece)
}
