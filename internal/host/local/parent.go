package local

import (
	"fmt"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// findParent opens the copy of what had a UUID, as of a transaction of the sender. What was received from somewhere else than the
// sender has another transaction: then the copy in this folder, which whoever sends has seen, will do, if it was never altered, or what
// had the UUID itself, in any folder: whatever was received from it holds what it has always held.
func (d *Dir) findParent(uuid btrfs.UUID, transaction uint64) (*os.File, error) {
	listing, err := btrfs.List(d.dir, uuid)
	if err == nil && d.host.confine != nil {
		listing, err = d.host.confine.Narrow(d, listing)
	}
	if err != nil {
		return nil, err
	}
	isCopy := func(s btrfs.Subvolume) bool {
		return s.ReadOnly && s.AlteredIn == 0 && !btrfs.IsIncoming(s.Name) && (s.ReceivedUUID == uuid && s.Received() || s.UUID == uuid)
	}
	fits := func(s btrfs.Subvolume) bool { return isCopy(s) && receive.IsCopy(s, uuid, transaction) }
	for _, s := range listing.InDirectory {
		if fits(s) {
			return d.openSubvolume(s.Name)
		}
	}
	for _, s := range listing.All {
		if fits(s) {
			return btrfs.OpenSubvolume(d.dir, s.ID)
		}
	}
	for _, s := range listing.InDirectory {
		if isCopy(s) {
			return d.openSubvolume(s.Name)
		}
	}
	for _, s := range listing.All {
		if isCopy(s) && s.UUID == uuid {
			return btrfs.OpenSubvolume(d.dir, s.ID)
		}
	}
	return nil, hint.New(fmt.Errorf("parent %s not found in %s: %w", uuid, d.status.Path, receive.ErrNoParent),
		"--no-incremental sends a complete copy")
}

// Copies tells that what is received in the directory can take its data from snapshots in another one.
func (d *Dir) Copies(from host.Snapshots) bool {
	source, here := from.(*Dir)
	if !here || d.host.confine != nil {
		return false
	}
	root, err := btrfs.OpenSubvolume(source.dir, source.status.Subvolume.ID) // which only root can, and not in every container
	if err == nil {
		root.Close()
	}
	return err == nil
}

// sourceOf opens what a stream without data gets it from, if the order names something.
func (d *Dir) sourceOf(o host.ReceiveOrder) (*receive.Source, error) {
	if o.From == nil {
		return nil, nil
	}
	from, here := o.From.Dir.(*Dir)
	if !here {
		return nil, fmt.Errorf("the data of %s is not on this machine", o.Name)
	}
	source := new(receive.Source)
	var err error
	if source.Snapshot, err = from.openSubvolume(o.From.Snapshot); err == nil && o.From.Parent != "" {
		source.Parent, err = from.openParent(o.From.Parent)
	}
	if err != nil {
		closeSource(source)
		return nil, err
	}
	return source, nil
}

func closeSource(s *receive.Source) {
	if s == nil {
		return
	}
	for _, f := range []*os.File{s.Snapshot, s.Parent} {
		if f != nil {
			f.Close()
		}
	}
}
