package local

import (
	"fmt"

	"btrfs-backup/btrfs"
)

// btrfs receive takes any copy of the parent on the filesystem, which it looks for first by received UUID, then by UUID
// (btrfs-progs/cmds/receive.c: process_snapshot). For data of the parent that a stream clones it looks by received UUID only, and
// takes an unreachable copy for none at all: it goes on, with success, and a hole in the file.

// OwnCopy gives the UUID that only the copy of the parent in this folder has, and tells whether there are others on the filesystem.
// Since data may be cloned from these, there is no own one, which is zero, unless all copies are as good.
func (d *Dir) OwnCopy(parent btrfs.UUID) (own btrfs.UUID, others bool, err error) {
	listing, err := btrfs.List(d.dir)
	if err != nil || parent.IsZero() {
		return own, false, err
	}
	isCopy := func(s btrfs.Subvolume) bool { return s.ReceivedUUID == parent || s.UUID == parent }
	for _, s := range listing.InDirectory {
		if isCopy(s) && !btrfs.IsIncoming(s.Name) {
			own = s.UUID
		}
	}
	good := true
	for _, s := range listing.All {
		others = others || isCopy(s) && s.UUID != own
		if isCopy(s) && (!s.ReadOnly || s.AlteredIn != 0) || s.ReceivedUUID == own {
			good = false
		}
	}
	if !good {
		own = btrfs.UUID{}
	}
	return own, others, nil
}

// parentToName gives the UUID by which btrfs receive is to look for a parent.
func (d *Dir) parentToName(whole bool) func(parent [16]byte) [16]byte {
	return func(parent [16]byte) [16]byte {
		own, others, err := d.OwnCopy(parent)
		switch {
		case err != nil:
			d.host.log.Debug(fmt.Sprintf("looking for copies of the parent in %s: %v", d.status.Path, err))
			return parent
		case own.IsZero() || !others:
			return parent
		case whole:
			return own
		case d.host.confine != nil: // it was allowed for the sake of its own copy, but others may be taken
			return [16]byte{}
		}
		return parent
	}
}
