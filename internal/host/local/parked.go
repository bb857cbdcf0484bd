package local

import (
	"fmt"
	"slices"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/handoff"
)

// ParkedAddress is where the process is found that holds the unfinished transfer of a backup, and waits for its sender if the
// connection was lost.
func (d *Dir) ParkedAddress(name string) string {
	at := d.status.DirID
	return handoff.AddressOf(fmt.Sprintf("%s %d %d %s", at.Filesystem, at.Subvolume, at.Inode, name))
}

// IsParked tells whether a process holds the unfinished transfer of a backup.
func (d *Dir) IsParked(name string) bool { return handoff.IsTaken(d.ParkedAddress(name)) }

// withoutParked leaves out the unfinished backups that a process holds for their senders.
func (d *Dir) withoutParked(listing btrfs.Listing) btrfs.Listing {
	listing.InDirectory = slices.DeleteFunc(listing.InDirectory, func(s btrfs.Subvolume) bool {
		name, incoming := btrfs.IncomingOf(s.Name)
		return incoming && d.IsParked(name)
	})
	return listing
}
