package agent

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (d *dir) FindDamage(ctx context.Context, name string, found func(heal.Damage), progress func(bytes int64)) (heal.Searched, error) {
	return protocol.FindDamage.CallTold(ctx, d.host, d.named(name), func(n protocol.DamageNotice) {
		for _, damage := range n.Found {
			found(damage)
		}
		progress(n.Bytes)
	})
}

func (d *dir) PutBlockBack(ctx context.Context, name string, p heal.Piece) ([]heal.Copy, error) {
	return protocol.PutBlockBack.Call(ctx, d.host, protocol.PieceCall{Dir: d.name(), Name: name, Piece: p})
}

func (d *dir) RewriteExtents(ctx context.Context, name string, pieces []heal.Piece) (heal.Rewritten, error) {
	return protocol.RewriteExtents.Call(ctx, d.host, protocol.PiecesCall{Dir: d.name(), Name: name, Pieces: pieces})
}

func (d *dir) CleanHealed(ctx context.Context) error {
	_, err := protocol.CleanHealed.Call(ctx, d.host, d.name())
	return err
}

func (d *dir) ReadPiece(ctx context.Context, name string, p heal.Piece) (heal.Piece, error) {
	return protocol.ReadPiece.Call(ctx, d.host, protocol.PieceCall{Dir: d.name(), Name: name, Piece: p})
}
