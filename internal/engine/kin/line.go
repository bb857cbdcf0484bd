package kin

import (
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// A Record is what is on record of sources and their backups.
type Record struct {
	Sources []btrfs.UUID              // the source and those that it continues, when there were backups of it before
	Renamed []btrfs.UUID              // the same under all names that the source had
	Lost    bool                      // those cannot be read
	Origins map[btrfs.UUID]btrfs.UUID // the source of each received UUID at the destination
	Held    map[btrfs.UUID]Held       // what the destination holds of each of these
}

// Held tells what a destination holds of a source.
type Held struct {
	First, Last uint64       // transactions there in which backups were made
	Arrived     time.Time    // the last one
	Apart       []btrfs.UUID // sources on record as others, though they began with its history
}

// apart tells that two sources lived at the same time, so that none of them can be what the other one was.
func (r Record) apart(a, b btrfs.UUID) bool {
	x, y := r.Held[a], r.Held[b]
	return a != b && (slices.Contains(x.Apart, b) || slices.Contains(y.Apart, a) || x.Last > y.First && y.Last > x.First && x.First > 0 && y.First > 0)
}

// A Line is a source and the subvolumes whose history it continues: after a rollback or a restore, those that it descends from.
// An ancestor that lives and can be written to is a source of its own, of which this one is a clone, unless it is on record as
// having been the source before. What was decided when there were first backups of the source remains: that the template of a
// clone is deleted makes its backups nobody else's. Nor is a source continued that was backed up after another one began with its
// history, or which is on record as apart: of two such, the one of which the source descends more closely counts.
type Line struct {
	UUIDs    map[btrfs.UUID]bool
	Clone    bool
	Restored map[btrfs.UUID]bool // known by a received copy only: they may live on another filesystem
	All      bool                // whatever is listed is of the line, whatever it was made from
}

// Holds tells that s is of the line, or a snapshot of one.
func (l Line) Holds(s btrfs.Subvolume) bool { return l.All || l.UUIDs[s.UUID] || l.UUIDs[s.ParentUUID] }

// Excludes tells that s was taken of something else. Of what a received one was taken is unknown.
func (l Line) Excludes(s btrfs.Subvolume) bool { return !s.Received() && !l.Holds(s) }

// NewLine follows the parents of a source, as far as they are listed.
func NewLine(source btrfs.Subvolume, there btrfs.Listing, record Record) Line {
	// the top level of a filesystem made before btrfs-progs 4.16 has no UUID, and its snapshots have no parent's
	l := Line{UUIDs: map[btrfs.UUID]bool{source.UUID: true}, Restored: make(map[btrfs.UUID]bool)}
	a := newAncestry(source, there, record)
	var versions []btrfs.Subvolume // of the next ancestor that can be written to
	seen := make(map[btrfs.UUID]bool)
	for uuid := source.ParentUUID; !uuid.IsZero() && !l.UUIDs[uuid]; uuid = a.at(uuid).ParentUUID {
		if sub := a.at(uuid); sub.ReadOnly && !seen[uuid] {
			versions, seen[uuid] = append(versions, sub), true
			continue
		}
		if !a.continues(uuid) || l.apart(a, uuid) {
			l.Clone, versions = true, nil
			break
		}
		l.add(a, uuid, versions)
		versions = nil
		clear(seen)
	}
	l.add(a, btrfs.UUID{}, versions)
	if slices.ContainsFunc(record.Sources, func(uuid btrfs.UUID) bool { return l.UUIDs[uuid] }) {
		l.addRecorded(a)
	}
	return l
}

// addRecorded adds what was found to be of the line before. Of two that are apart from each other, none is certain.
func (l Line) addRecorded(a *ancestry) {
	others := make(map[btrfs.UUID]bool)
	for _, uuid := range a.Sources {
		if !l.UUIDs[uuid] && !a.others[uuid] && !l.apart(a, uuid) && !a.Held[uuid].Arrived.After(a.source.Created) {
			others[uuid] = true
		}
	}
	for uuid := range others {
		if !a.apartFromAny(uuid, others) {
			l.UUIDs[uuid] = true
		}
	}
}

// apart tells that a source lived at the same time as one of the line.
func (l Line) apart(a *ancestry, uuid btrfs.UUID) bool {
	last, first := a.Held[uuid].Last, a.Held[a.source.UUID].First
	return a.apartFromAny(uuid, l.UUIDs) || uuid != a.source.UUID && first > 0 && last > first
}

// add adds an ancestor and its versions. A received version stands for the subvolume that it is on record as a backup of.
func (l *Line) add(a *ancestry, ancestor btrfs.UUID, versions []btrfs.Subvolume) {
	if !ancestor.IsZero() {
		l.UUIDs[ancestor] = true
	}
	for _, v := range versions {
		if a.continues(v.UUID) {
			l.UUIDs[v.UUID] = true
		}
		origin := a.Origins[v.ReceivedUUID]
		switch {
		case !v.Received() || origin.IsZero() || !l.UUIDs[v.UUID] || l.UUIDs[origin]:
		case l.apart(a, origin) || a.apartFromAny(origin, a.sources), a.Held[origin].Arrived.After(a.begun()):
			l.Clone, a.others[origin] = true, true
		case a.isFree(origin) || a.sources[origin]:
			l.UUIDs[origin], l.Restored[origin] = true, true
		}
	}
}

// An ancestry is what can be known of the ancestors of a source.
type ancestry struct {
	Record
	source  btrfs.Subvolume
	top     btrfs.UUID
	decided bool                // what the source continues
	sources map[btrfs.UUID]bool // those of Record
	known   map[btrfs.UUID]bool // the same, and Renamed
	others  map[btrfs.UUID]bool // sources that live, though a copy was restored of them

	// Few sources have ancestors, so these are made when they are asked for:
	here    func() map[btrfs.UUID]*btrfs.Subvolume
	claimed func() map[btrfs.UUID]bool // another subvolume that can be written to descends from them
	begun   func() time.Time           // when the source was made, or the first of those that it was rolled back from
}

func newAncestry(source btrfs.Subvolume, there btrfs.Listing, record Record) *ancestry {
	a := &ancestry{Record: record, source: source, top: there.Top, others: make(map[btrfs.UUID]bool),
		sources: setOf(record.Sources), known: setOf(slices.Concat(record.Sources, record.Renamed))}
	a.decided = record.Lost || a.known[source.UUID]
	a.here = sync.OnceValue(func() map[btrfs.UUID]*btrfs.Subvolume {
		here := make(map[btrfs.UUID]*btrfs.Subvolume, len(there.All)+1)
		for i := range there.All {
			here[there.All[i].UUID] = &there.All[i]
		}
		here[source.UUID] = &source
		return here
	})
	a.claimed = sync.OnceValue(func() map[btrfs.UUID]bool { return a.findClaimed(there.All) })
	a.begun = sync.OnceValue(a.findBegun)
	return a
}

func setOf(uuids []btrfs.UUID) map[btrfs.UUID]bool {
	set := make(map[btrfs.UUID]bool, len(uuids))
	for _, uuid := range uuids {
		set[uuid] = true
	}
	return set
}

// at gives the subvolume of a UUID, or none.
func (a *ancestry) at(uuid btrfs.UUID) btrfs.Subvolume {
	if sub, here := a.here()[uuid]; here {
		return *sub
	}
	return btrfs.Subvolume{}
}

func (a *ancestry) findClaimed(all []btrfs.Subvolume) map[btrfs.UUID]bool {
	claimed := make(map[btrfs.UUID]bool)
	for _, sub := range all {
		if sub.ReadOnly || sub.UUID == a.source.UUID || a.sources[sub.UUID] || btrfs.IsIncoming(sub.Name) {
			continue
		}
		for uuid := sub.ParentUUID; !uuid.IsZero() && !claimed[uuid]; uuid = a.at(uuid).ParentUUID {
			if above, here := a.here()[uuid]; here && !above.ReadOnly { // whose claim goes before
				break
			}
			claimed[uuid] = true
		}
	}
	return claimed
}

// continues tells that the source continues the history of an ancestor.
func (a *ancestry) continues(uuid btrfs.UUID) bool {
	return a.known[uuid] || !a.decided && a.isFree(uuid)
}

// apartFromAny tells that a source lived at the same time as one of others. Only of what the destination holds can that be known.
func (a *ancestry) apartFromAny(uuid btrfs.UUID, others map[btrfs.UUID]bool) bool {
	for other := range a.Held {
		if others[other] && a.apart(uuid, other) {
			return true
		}
	}
	return slices.ContainsFunc(a.Held[uuid].Apart, func(other btrfs.UUID) bool { return other != uuid && others[other] })
}

func (a *ancestry) findBegun() time.Time {
	begun := a.source.Created
	above := a.at(a.source.ParentUUID)
	for range a.here() {
		if !above.ReadOnly && !a.continues(above.UUID) || above.UUID.IsZero() {
			break
		}
		if !above.ReadOnly && above.Created.Before(begun) {
			begun = above.Created
		}
		above = a.at(above.ParentUUID)
	}
	return begun
}

// isFree tells that no other source can be known to have that history.
func (a *ancestry) isFree(uuid btrfs.UUID) bool {
	sub, here := a.here()[uuid]
	lives := here && !sub.ReadOnly || !here && (a.top.IsZero() || uuid == a.top) // not all subvolumes may be listed
	return !lives && !a.claimed()[uuid]
}
