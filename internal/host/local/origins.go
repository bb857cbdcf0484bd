package local

import (
	"fmt"
	"path"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/host"
)

// RecordOrigin adds a backup to the record. One that cannot be read is left alone: whoever lists the directory is told, and
// prunes nothing.
func (d *Dir) RecordOrigin(name string, origin btrfs.UUID) error {
	origins, err := host.ParseOrigins(d.file(host.OriginsFile))
	if err != nil {
		d.host.log.Debug(fmt.Sprintf("of which source %s is was not recorded: %v", name, host.BadOrigins(d.status.Path, err)))
		return nil
	}
	listing, err := btrfs.List(d.dir)
	if err != nil {
		return err
	}
	content, changed, err := origins.Add(name, origin, listing)
	if err != nil || !changed {
		return err
	}
	state, err := openState(d.dir, true)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := replaceFile(state, path.Base(host.OriginsFile), content); err != nil {
		return err
	}
	return state.Sync()
}
