package volume

import (
	"cmp"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// held tells what a folder holds of each source: when its backups came, and which others are on record as apart from it.
func held(backups []btrfs.Subvolume, origins host.Origins, about host.About) map[btrfs.UUID]kin.Held {
	all := make(map[btrfs.UUID]kin.Held)
	for _, b := range backups {
		origin := origins[b.ReceivedUUID]
		if origin.IsZero() || !b.Received() || btrfs.IsIncoming(b.Name) {
			continue
		}
		h := all[origin]
		h.Apart = about.Sources[origin].Apart
		arrived := b.ReceivedAt
		// what is on record has whole seconds
		if when := about.Backups[b.ReceivedUUID].When; !when.IsZero() && when.Add(time.Second).Before(arrived) {
			arrived = when // it was received anew since, as on another disk
		} else {
			h.Last = max(h.Last, b.CreatedIn)
			h.First = min(b.CreatedIn, cmp.Or(h.First, b.CreatedIn))
		}
		if arrived.After(h.Arrived) {
			h.Arrived = arrived
		}
		all[origin] = h
	}
	return all
}
