package host

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
)

// Attributed tells of attributes of chattr(1), which no stream holds.
type Attributed interface {
	// Attributes tells what of a subvolume in the folder has them: of a backup, as is on record. With a parent there, only what differs
	// is told.
	Attributes(ctx context.Context, name, parent string) (attributes.List, error)
	// SetAttributes gives files of a subvolume, or directory, in the folder what a list tells.
	SetAttributes(ctx context.Context, name string, l attributes.List) (attributes.Report, error)
}
