package engine

import (
	"cmp"
	"slices"

	"btrfs-backup/btrfs"
)

// isComplete tells a complete backup: `btrfs receive` sets the received UUID and the read-only flag at the very end. One that
// somebody altered since is a backup no more.
func isComplete(s btrfs.Subvolume) bool { return s.ReadOnly && s.Received() && s.TouchedIn == 0 }

// isPartial tells what a `btrfs receive` that did not end leaves under the name it was given. A read-only subvolume that was
// never received, and a received one that was made writable, belong to the user.
func isPartial(s btrfs.Subvolume) bool { return !s.ReadOnly && s.ReceivedUUID.IsZero() }

// byAge orders subvolumes of one filesystem by their creation, whatever the clock said.
func byAge(a, b btrfs.Subvolume) int {
	return cmp.Or(cmp.Compare(a.CreatedIn, b.CreatedIn), cmp.Compare(a.ID, b.ID))
}

// A lineage tells which subvolumes of a filesystem descend from a common one.
type lineage struct {
	parents map[btrfs.UUID]btrfs.UUID
	roots   map[btrfs.UUID]btrfs.UUID // those found so far
	oneKin  bool                      // all of them descend from one
}

func findLineage(subvolumes ...btrfs.Subvolume) lineage {
	l := lineage{parents: make(map[btrfs.UUID]btrfs.UUID, len(subvolumes)), roots: make(map[btrfs.UUID]btrfs.UUID, len(subvolumes))}
	for _, s := range subvolumes {
		l.parents[s.UUID] = s.ParentUUID
	}
	return l
}

// root gives the oldest known ancestor, which need not exist any more.
func (l lineage) root(s btrfs.Subvolume) btrfs.UUID {
	uuid, parent := s.UUID, s.ParentUUID
	path := []btrfs.UUID{uuid}
	for range len(l.parents) + 1 { // no more steps than subvolumes, should the links form a ring
		if known, ok := l.roots[parent]; ok {
			uuid = known
			break
		}
		if parent.IsZero() {
			break
		}
		path = append(path, parent)
		uuid, parent = parent, l.parents[parent]
	}
	for _, u := range path {
		if !u.IsZero() {
			l.roots[u] = uuid
		}
	}
	return uuid
}

func (l lineage) related(a, b btrfs.Subvolume) bool {
	ofNamelessTop := a.ParentUUID.IsZero() && b.ParentUUID.IsZero() && a.ReceivedUUID.IsZero() && b.ReceivedUUID.IsZero()
	return l.oneKin || ofNamelessTop || l.root(a) == l.root(b)
}

// ladder orders the subvolumes that can be the parent of s: the newest older one first, then the oldest newer ones.
func (l lineage) ladder(s btrfs.Subvolume, candidates []btrfs.Subvolume) []btrfs.Subvolume {
	var older, newer []btrfs.Subvolume
	for _, c := range candidates {
		switch {
		case c.ID == s.ID || !l.related(c, s):
		case byAge(c, s) < 0:
			older = append(older, c)
		default:
			newer = append(newer, c)
		}
	}
	slices.SortFunc(older, func(a, b btrfs.Subvolume) int { return byAge(b, a) })
	slices.SortFunc(newer, byAge)
	return append(older, newer...)
}
