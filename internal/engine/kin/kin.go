// Package kin tells which subvolumes descend from which: by their parents' UUIDs, and by what is on record. It is pure.
package kin

import (
	"cmp"
	"iter"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
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

// A branch is what related subvolumes share.
type branch struct {
	family     btrfs.UUID
	ofNameless bool // snapshots of a top level without UUID have no parent's
}

// branches gives those of a subvolume.
func (l Lineage) branches(s btrfs.Subvolume) []branch {
	switch {
	case l.OneKin:
		return []branch{{}}
	case s.ParentUUID.IsZero() && s.ReceivedUUID.IsZero():
		return []branch{{family: l.Family(s)}, {ofNameless: true}}
	}
	return []branch{{family: l.Family(s)}}
}

// Bases are subvolumes that others can be built upon.
type Bases struct {
	lineage Lineage
	byAge   map[branch][]*btrfs.Subvolume
}

// NewBases gives subvolumes of a lineage. It borrows them.
func NewBases(l Lineage, subvolumes []btrfs.Subvolume) Bases {
	b := Bases{lineage: l, byAge: make(map[branch][]*btrfs.Subvolume)}
	for i := range subvolumes {
		b.Add(&subvolumes[i])
	}
	return b
}

// Add adds one.
func (b Bases) Add(s *btrfs.Subvolume) {
	for _, in := range b.lineage.branches(*s) {
		all := b.byAge[in]
		at, _ := find(all, s)
		b.byAge[in] = slices.Insert(all, at, s)
	}
}

// AreKin tells that a subvolume can be the parent of s.
func (b Bases) AreKin(s, parent *btrfs.Subvolume) bool {
	branches := b.lineage.branches(*s)
	return slices.ContainsFunc(b.lineage.branches(*parent), func(in branch) bool { return slices.Contains(branches, in) })
}

// Of gives those that can be the parent of s: the newest older one first, then the oldest newer ones.
func (b Bases) Of(s *btrfs.Subvolume) iter.Seq[*btrfs.Subvolume] {
	branches := b.lineage.branches(*s)
	return func(yield func(*btrfs.Subvolume) bool) {
		for c := b.older(branches, s); c != nil; c = b.older(branches, c) {
			if !yield(c) {
				return
			}
		}
		for c := b.newer(branches, s); c != nil; c = b.newer(branches, c) {
			if !yield(c) {
				return
			}
		}
	}
}

// older gives the newest that is older than another one; nil if there is none.
func (b Bases) older(branches []branch, than *btrfs.Subvolume) (next *btrfs.Subvolume) {
	for _, in := range branches {
		all := b.byAge[in]
		if at, _ := find(all, than); at > 0 && (next == nil || ByAge(*all[at-1], *next) > 0) {
			next = all[at-1]
		}
	}
	return next
}

// newer gives the oldest that is newer than another one; nil if there is none.
func (b Bases) newer(branches []branch, than *btrfs.Subvolume) (next *btrfs.Subvolume) {
	for _, in := range branches {
		all := b.byAge[in]
		at, itself := find(all, than)
		if itself {
			at++
		}
		if at < len(all) && (next == nil || ByAge(*all[at], *next) < 0) {
			next = all[at]
		}
	}
	return next
}

func find(byAge []*btrfs.Subvolume, s *btrfs.Subvolume) (at int, found bool) {
	return slices.BinarySearchFunc(byAge, s, func(a, b *btrfs.Subvolume) int { return ByAge(*a, *b) })
}
