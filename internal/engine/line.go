package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"btrfs-backup/btrfs"
)

// A line is a source and the subvolumes whose history it continues: after a rollback or a restore, those that it descends from.
// An ancestor that lives and can be written to is a source of its own, of which this one is a clone, unless it is on record as
// having been the source before. What was decided when there were first backups of the source remains: that the template of a
// clone is deleted makes its backups nobody else's.
type line struct {
	uuids map[btrfs.UUID]bool
	clone bool
}

// hold tells that s is of the line, or a snapshot of one.
func (l line) hold(s btrfs.Subvolume) bool { return l.uuids[s.UUID] || l.uuids[s.ParentUUID] }

// exclude tells that s was taken of something else. Of what a received one was taken is unknown.
func (l line) exclude(s btrfs.Subvolume) bool { return !s.Received() && !l.hold(s) }

// line follows the parents of a source.
func (s side) line(source btrfs.Subvolume) line {
	// the top level of a filesystem made before btrfs-progs 4.16 has no UUID, and its snapshots have no parent's
	l := line{uuids: map[btrfs.UUID]bool{source.UUID: true}}
	f := s.newFamily(source)
	var versions []btrfs.Subvolume // of the next ancestor that can be written to
	for uuid := source.ParentUUID; !uuid.IsZero() && !l.uuids[uuid]; uuid = f.parents[uuid] {
		if a, here := f.here[uuid]; here && a.ReadOnly && !slices.Contains(versions, a) {
			versions = append(versions, a)
			continue
		}
		if l.clone = !f.continues(uuid); l.clone {
			versions = nil
			break
		}
		l.add(f, uuid, versions)
		versions = nil
	}
	l.add(f, btrfs.UUID{}, versions)
	if slices.ContainsFunc(s.onRecord, func(uuid btrfs.UUID) bool { return l.uuids[uuid] }) {
		for _, uuid := range s.onRecord {
			l.uuids[uuid] = true
		}
	}
	return l
}

// add adds an ancestor and its versions. A received version stands for the subvolume that it is on record as a backup of.
func (l line) add(f family, ancestor btrfs.UUID, versions []btrfs.Subvolume) {
	if !ancestor.IsZero() {
		l.uuids[ancestor] = true
	}
	for _, v := range versions {
		if f.continues(v.UUID) {
			l.uuids[v.UUID] = true
		}
		if origin := f.origins[v.ReceivedUUID]; v.Received() && !origin.IsZero() && l.uuids[v.UUID] && (f.isFree(origin) || slices.Contains(f.onRecord, origin)) {
			l.uuids[origin] = true
		}
	}
}

// A family is what can be known of the ancestors of a source.
type family struct {
	side
	here    map[btrfs.UUID]btrfs.Subvolume
	parents map[btrfs.UUID]btrfs.UUID
	decided bool                // what the source continues
	claimed map[btrfs.UUID]bool // another subvolume that can be written to descends from them
}

func (s side) newFamily(source btrfs.Subvolume) family {
	f := family{
		side: s, here: make(map[btrfs.UUID]btrfs.Subvolume), parents: make(map[btrfs.UUID]btrfs.UUID), claimed: make(map[btrfs.UUID]bool),
		decided: s.unremembered || slices.Contains(s.onRecord, source.UUID),
	}
	for _, sub := range append(slices.Clone(s.All), source) {
		f.here[sub.UUID], f.parents[sub.UUID] = sub, sub.ParentUUID
	}
	for _, sub := range s.All {
		if sub.ReadOnly || sub.UUID == source.UUID || slices.Contains(s.onRecord, sub.UUID) {
			continue
		}
		if _, incoming := btrfs.IncomingOf(sub.Name); incoming {
			continue
		}
		for uuid := sub.ParentUUID; !uuid.IsZero() && !f.claimed[uuid]; uuid = f.parents[uuid] {
			if a, here := f.here[uuid]; here && !a.ReadOnly { // whose claim goes before
				break
			}
			f.claimed[uuid] = true
		}
	}
	return f
}

// continues tells that the source continues the history of an ancestor.
func (f family) continues(uuid btrfs.UUID) bool {
	return slices.Contains(f.onRecord, uuid) || !f.decided && f.isFree(uuid)
}

// isFree tells that no other source can be known to have that history.
func (f family) isFree(uuid btrfs.UUID) bool {
	sub, here := f.here[uuid]
	lives := here && !sub.ReadOnly || !here && (f.Top.IsZero() || uuid == f.Top) // not all subvolumes may be listed
	return !lives && !f.claimed[uuid]
}

// recall reads of which subvolumes there are backups under the source's name.
func (r *run) recall() {
	known, err := r.Sources.Of(r.Source.String())
	if r.snapshots.unremembered = err != nil; err != nil {
		r.Log.Warn(fmt.Sprintf("%s: after a rollback its older snapshots and backups are kept, since the record of sources cannot be read: %v", r.Source, err))
	}
	for _, text := range known {
		var uuid btrfs.UUID
		if uuid.UnmarshalText([]byte(text)) == nil && !uuid.IsZero() {
			r.snapshots.onRecord = append(r.snapshots.onRecord, uuid)
		}
	}
	r.continued = r.snapshots.line(r.source).uuids
}

// continueWith adds what the records at a destination tell.
func (r *run) continueWith(l line) {
	if r.history == nil {
		return
	}
	r.ledgerMu.Lock()
	defer r.ledgerMu.Unlock()
	maps.Copy(r.continued, l.uuids)
}

// remember puts the source and those that it continues on record, once a version of it was taken or saved.
func (r *run) remember(ctx context.Context) {
	if r.DryRun || !r.report.madeSome() {
		return
	}
	var uuids []string
	for uuid := range r.continued {
		if !uuid.IsZero() {
			uuids = append(uuids, uuid.String())
		}
	}
	slices.Sort(uuids)
	if err := r.Sources.Set(context.WithoutCancel(ctx), r.Source.String(), uuids); err != nil {
		r.Log.Warn(fmt.Sprintf("%s: cannot be remembered, so that a rollback of it looks like a clone: %v", r.Source, err))
	}
}
