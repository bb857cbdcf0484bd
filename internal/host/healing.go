package host

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/heal"
)

// Healing is for what the disk does not give any more of the backups in a directory; see package heal. All of it needs root.
type Healing interface {
	// FindDamage reads all of a backup. It tells progress, in bytes read.
	FindDamage(ctx context.Context, name string, found func(heal.Damage), progress func(bytes int64)) (heal.Searched, error)
	// PutBlockBack writes a good piece of a backup to the device.
	PutBlockBack(ctx context.Context, name string, p heal.Piece) ([]heal.Copy, error)
	// RewriteExtents replaces extents of a backup, and of all that share them. The directory must be locked.
	RewriteExtents(ctx context.Context, name string, pieces []heal.Piece) (heal.Rewritten, error)
	// CleanHealed removes what a killed run left. The directory must be locked.
	CleanHealed(ctx context.Context) error
	// ReadPiece reads a piece of what a backup or snapshot in the directory, or a directory in it, holds.
	ReadPiece(ctx context.Context, name string, p heal.Piece) (heal.Piece, error)
}
