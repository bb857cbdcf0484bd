package restore

import (
	"context"
	"errors"
	"path"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
)

// Find gives the backup that a path means or, with a time, the newest in the folder there until then.
func Find(ctx context.Context, h host.Trees, at string, until time.Time) (inventory.Found, error) {
	if until.IsZero() {
		found, err := inventory.FindVersion(ctx, h, at, host.SnapshotFolder)
		if errors.Is(err, inventory.ErrFolder) {
			err = hint.New(err, "--at now takes the newest; "+hint.Of(err))
		}
		return found, err
	}
	folder, err := inventory.Look(ctx, h, at, host.SnapshotFolder)
	if err != nil {
		return inventory.Found{}, err
	}
	version, err := folder.At(until, "")
	if err != nil {
		return inventory.Found{}, err
	}
	return inventory.Find(ctx, h, path.Join(folder.Path, version.Name), "")
}
