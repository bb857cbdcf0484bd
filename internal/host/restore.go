package host

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
)

// A Restorer brings subvolumes back on the machine where they belong.
type Restorer interface {
	// Relatives lists the directory as List does, and tells of everything on the filesystem that has one of the UUIDs, or was received
	// as such, whether it was altered.
	Relatives(ctx context.Context, of []btrfs.UUID) (Content, error)
	// Replace puts a writable snapshot in the place of the directory, or into it; see replace.Do.
	Replace(ctx context.Context, o replace.Order) (replace.Report, error)
}
