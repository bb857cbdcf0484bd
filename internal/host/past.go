package host

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/past"
)

// The Past is what snapshots and backups in a directory held.
type Past interface {
	// Changes tells what differs between two of them, in the order of changes.Compare. Directories of which only the time changed
	// are among it; see changes.Change.IsNoise. It needs root.
	Changes(ctx context.Context, o ChangesOrder, each func(changes.Change)) error
	// Versions gives the versions of a file in snapshots or backups of the directory, in one round trip; see past.Versions.
	Versions(ctx context.Context, o past.Order) ([]past.Version, error)
	// Manifest writes that of a snapshot or backup; one that has none is tree.ErrNoManifest.
	Manifest(ctx context.Context, name string, w io.Writer) error
}

// A ChangesOrder names two subvolumes of one filesystem that are read-only. Which is older does not matter.
type ChangesOrder struct {
	Name string // of the newer one, in the directory
	From string // the absolute path of the older one; "": all that the newer one holds was created
}
