package kin

import (
	"slices"

	"btrfs-backup/btrfs"
)

// A Record is what is on record of sources and their backups.
type Record struct {
	Sources []btrfs.UUID              // the source and those that it continues, when there were backups of it before
	Renamed []btrfs.UUID              // the same under all names that the source had
	Lost    bool                      // those cannot be read
	Origins map[btrfs.UUID]btrfs.UUID // the source of each received UUID at the destination
}

// A Line is a source and the subvolumes whose history it continues: after a rollback or a restore, those that it descends from.
// An ancestor that lives and can be written to is a source of its own, of which this one is a clone, unless it is on record as
// having been the source before. What was decided when there were first backups of the source remains: that the template of a
// clone is deleted makes its backups nobody else's.
type Line struct {
	UUIDs map[btrfs.UUID]bool
	Clone bool
}

// Holds tells that s is of the line, or a snapshot of one.
func (l Line) Holds(s btrfs.Subvolume) bool { return l.UUIDs[s.UUID] || l.UUIDs[s.ParentUUID] }

// Excludes tells that s was taken of something else. Of what a received one was taken is unknown.
func (l Line) Excludes(s btrfs.Subvolume) bool { return !s.Received() && !l.Holds(s) }

// NewLine follows the parents of a source, as far as they are listed.
func NewLine(source btrfs.Subvolume, there btrfs.Listing, record Record) Line {
	// the top level of a filesystem made before btrfs-progs 4.16 has no UUID, and its snapshots have no parent's
	l := Line{UUIDs: map[btrfs.UUID]bool{source.UUID: true}}
	a := newAncestry(source, there, record)
	var versions []btrfs.Subvolume // of the next ancestor that can be written to
	for uuid := source.ParentUUID; !uuid.IsZero() && !l.UUIDs[uuid]; uuid = a.here[uuid].ParentUUID {
		if sub := a.here[uuid]; sub.ReadOnly && !slices.Contains(versions, sub) {
			versions = append(versions, sub)
			continue
		}
		if l.Clone = !a.continues(uuid); l.Clone {
			versions = nil
			break
		}
		l.add(a, uuid, versions)
		versions = nil
	}
	l.add(a, btrfs.UUID{}, versions)
	if slices.ContainsFunc(record.Sources, func(uuid btrfs.UUID) bool { return l.UUIDs[uuid] }) {
		for _, uuid := range record.Sources {
			l.UUIDs[uuid] = true
		}
	}
	return l
}

// add adds an ancestor and its versions. A received version stands for the subvolume that it is on record as a backup of.
func (l Line) add(a ancestry, ancestor btrfs.UUID, versions []btrfs.Subvolume) {
	if !ancestor.IsZero() {
		l.UUIDs[ancestor] = true
	}
	for _, v := range versions {
		if a.continues(v.UUID) {
			l.UUIDs[v.UUID] = true
		}
		origin := a.Origins[v.ReceivedUUID]
		if v.Received() && !origin.IsZero() && l.UUIDs[v.UUID] && (a.isFree(origin) || slices.Contains(a.Sources, origin)) {
			l.UUIDs[origin] = true
		}
	}
}

// An ancestry is what can be known of the ancestors of a source.
type ancestry struct {
	Record
	top     btrfs.UUID
	here    map[btrfs.UUID]btrfs.Subvolume
	decided bool                // what the source continues
	claimed map[btrfs.UUID]bool // another subvolume that can be written to descends from them
}

func newAncestry(source btrfs.Subvolume, there btrfs.Listing, record Record) ancestry {
	a := ancestry{Record: record, top: there.Top, here: make(map[btrfs.UUID]btrfs.Subvolume), claimed: make(map[btrfs.UUID]bool),
		decided: record.Lost || slices.Contains(slices.Concat(record.Sources, record.Renamed), source.UUID)}
	for _, sub := range append(slices.Clone(there.All), source) {
		a.here[sub.UUID] = sub
	}
	for _, sub := range there.All {
		if sub.ReadOnly || sub.UUID == source.UUID || slices.Contains(record.Sources, sub.UUID) || btrfs.IsIncoming(sub.Name) {
			continue
		}
		for uuid := sub.ParentUUID; !uuid.IsZero() && !a.claimed[uuid]; uuid = a.here[uuid].ParentUUID {
			if above, here := a.here[uuid]; here && !above.ReadOnly { // whose claim goes before
				break
			}
			a.claimed[uuid] = true
		}
	}
	return a
}

// continues tells that the source continues the history of an ancestor.
func (a ancestry) continues(uuid btrfs.UUID) bool {
	return slices.Contains(a.Sources, uuid) || slices.Contains(a.Renamed, uuid) || !a.decided && a.isFree(uuid)
}

// isFree tells that no other source can be known to have that history.
func (a ancestry) isFree(uuid btrfs.UUID) bool {
	sub, here := a.here[uuid]
	lives := here && !sub.ReadOnly || !here && (a.top.IsZero() || uuid == a.top) // not all subvolumes may be listed
	return !lives && !a.claimed[uuid]
}
