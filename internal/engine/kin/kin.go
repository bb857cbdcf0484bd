// Package kin tells which subvolumes descend from which: by their parents' UUIDs, and by what is on record. It is pure.
package kin

import (
	"cmp"
	"slices"

	"btrfs-backup/btrfs"
)

// ByAge orders subvolumes of one filesystem by their creation, whatever the clock said.
func ByAge(a, b btrfs.Subvolume) int {
	return cmp.Or(cmp.Compare(a.CreatedIn, b.CreatedIn), cmp.Compare(a.ID, b.ID))
}

// A Lineage tells which subvolumes of a filesystem are of one family: they descend from a common one, which need not exist any more.
type Lineage struct {
	OneKin   bool // all of them are
	families map[btrfs.UUID]btrfs.UUID
}

// NewLineage finds the families.
func NewLineage(subvolumes []btrfs.Subvolume) Lineage {
	l := Lineage{families: make(map[btrfs.UUID]btrfs.UUID, len(subvolumes))}
	for _, s := range subvolumes {
		if s.UUID.IsZero() || s.ParentUUID.IsZero() {
			continue
		}
		if own, parents := l.find(s.UUID), l.find(s.ParentUUID); own != parents {
			l.families[own] = parents
		}
	}
	return l
}

// find follows the links, and shortens the way for the next time.
func (l Lineage) find(uuid btrfs.UUID) btrfs.UUID {
	for {
		next, ok := l.families[uuid]
		if !ok {
			return uuid
		}
		if after, ok := l.families[next]; ok {
			l.families[uuid] = after
		}
		uuid = next
	}
}

// Family identifies the family of a subvolume, which may be one that does not exist yet.
func (l Lineage) Family(s btrfs.Subvolume) btrfs.UUID {
	return l.find(cmp.Or(s.ParentUUID, s.UUID))
}

// Related tells that one of the two can be built upon the other.
func (l Lineage) Related(a, b btrfs.Subvolume) bool {
	ofNamelessTop := a.ParentUUID.IsZero() && b.ParentUUID.IsZero() && a.ReceivedUUID.IsZero() && b.ReceivedUUID.IsZero()
	return l.OneKin || ofNamelessTop || l.Family(a) == l.Family(b)
}

// Ladder orders the subvolumes that can be the parent of s: the newest older one first, then the oldest newer ones.
func (l Lineage) Ladder(s btrfs.Subvolume, candidates []btrfs.Subvolume) []btrfs.Subvolume {
	var older, newer []btrfs.Subvolume
	for _, c := range candidates {
		switch {
		case c.ID == s.ID || !l.Related(c, s):
		case ByAge(c, s) < 0:
			older = append(older, c)
		default:
			newer = append(newer, c)
		}
	}
	slices.SortFunc(older, func(a, b btrfs.Subvolume) int { return ByAge(b, a) })
	slices.SortFunc(newer, ByAge)
	return append(older, newer...)
}
