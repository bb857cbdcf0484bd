package host

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/relink"
)

// A Relinker gives backups back what they are copies of.
type Relinker interface {
	// Relink makes a read-only subvolume of the directory a received copy again; see package relink. The directory must be locked.
	Relink(ctx context.Context, o relink.Order) error
}
