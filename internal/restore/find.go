package restore

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"time"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/volume"
)

// Find gives the backup that a path means or, with a time, the newest in the folder there until then. Where there is no link to the
// newest, as beside received backups, .latest means it all the same.
func Find(ctx context.Context, h host.Trees, at string, until, now time.Time) (inventory.Found, error) {
	if until.IsZero() {
		found, err := inventory.FindVersion(ctx, h, at, volume.DefaultFolder)
		missing := errors.Is(err, fs.ErrNotExist)
		if path.Base(at) != (engine.Naming{}).Latest() || !missing {
			if missing && hint.Of(err) == "" {
				err = hint.Newf(err, "`btrfs-backup list %s` shows what there is; is its disk mounted?", engine.PlaceName(h.String()+path.Dir(at)))
			}
			return found, err
		}
		at, until = path.Dir(at), now
	}
	folder, err := inventory.Look(ctx, h, at, volume.DefaultFolder)
	if err != nil {
		return inventory.Found{}, err
	}
	version, err := folder.At(until, "")
	if err != nil {
		return inventory.Found{}, err
	}
	return inventory.Find(ctx, h, path.Join(folder.Path, version.Name))
}
