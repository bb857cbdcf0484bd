package serve

import (
	"context"

	"btrfs-backup/internal/heal"
	"btrfs-backup/internal/host/local"
	"btrfs-backup/internal/host/protocol"
)

func (s *server) findDamage(ctx context.Context, d *local.Dir, c protocol.NameCall, tell func(protocol.DamageNotice)) (heal.Searched, error) {
	told := batch[protocol.DamageNotice]{tell: tell, full: func(n protocol.DamageNotice) bool { return len(n.Found) >= maxDifferences }}
	defer told.flush()
	return d.FindDamage(ctx, c.Name, func(damage heal.Damage) {
		told.change(func(n protocol.DamageNotice) protocol.DamageNotice {
			n.Found = append(n.Found, damage)
			return n
		})
	}, func(bytes int64) {
		told.change(func(n protocol.DamageNotice) protocol.DamageNotice {
			n.Bytes += bytes
			return n
		})
	})
}

func (s *server) putBlockBack(ctx context.Context, d *local.Dir, c protocol.PieceCall) ([]heal.Copy, error) {
	return d.PutBlockBack(ctx, c.Name, c.Piece)
}

func (s *server) rewriteExtents(ctx context.Context, d *local.Dir, c protocol.PiecesCall) (heal.Rewritten, error) {
	return d.RewriteExtents(ctx, c.Name, c.Pieces)
}

func (s *server) cleanHealed(ctx context.Context, d *local.Dir, _ protocol.Dir) (none protocol.Nothing, err error) {
	return none, d.CleanHealed(ctx)
}

func (s *server) readPiece(ctx context.Context, d *local.Dir, c protocol.PieceCall) (heal.Piece, error) {
	return d.ReadPiece(ctx, c.Name, c.Piece)
}
