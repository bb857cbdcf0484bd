package local

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/tree"
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
	if err := unix.Mkdirat(int(d.dir.Fd()), tree.StateDir, 0o755); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "mkdir", Path: d.status.Path + "/" + tree.StateDir, Err: err}
	}
	return d.replaceFile(host.OriginsFile, content)
}
