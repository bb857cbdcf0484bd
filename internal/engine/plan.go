package engine

import (
	"slices"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// A Transfer is one snapshot to be sent.
type Transfer struct {
	Snapshot btrfs.Subvolume
	Parent   *btrfs.Subvolume // nil: a complete copy
}

// A Plan is what is to be done at one destination.
type Plan struct {
	Leftovers []string // what earlier runs left unfinished; deleted first
	Transfers []Transfer
	Verdicts  []retention.Verdict // on the backups, those to come included
	Delete    []string            // deleted last, when every transfer succeeded
}

// A side is one listed folder.
type side struct {
	btrfs.Listing
	naming Naming
	ledger *lock.Ledger // nil if it could not be read
}

// series gives the read-only subvolumes of the series, oldest first.
func (s side) series() []btrfs.Subvolume {
	var ours []btrfs.Subvolume
	for _, sub := range s.InDirectory {
		if sub.ReadOnly && s.naming.Ours(sub.Name) {
			ours = append(ours, sub)
		}
	}
	slices.SortFunc(ours, byAge)
	return ours
}

// seriesOf gives those of the series that can be snapshots of the source.
func (s side) seriesOf(source btrfs.Subvolume) []btrfs.Subvolume {
	if s.isHistoryOf(source) {
		return s.series()
	}
	return slices.DeleteFunc(s.series(), s.ancestors(source).exclude)
}

// isHistoryOf tells that the source is itself one of the snapshots: each was made from the one before it, as copies by rsync
// are. When some of them have been deleted, nothing else tells that the others are of one kin.
func (s side) isHistoryOf(source btrfs.Subvolume) bool {
	return !source.UUID.IsZero() && slices.ContainsFunc(s.InDirectory, func(sub btrfs.Subvolume) bool {
		return sub.UUID == source.UUID && sub.ReadOnly
	})
}

// lineage tells which snapshots can be parents of each other.
func (s side) lineage(source btrfs.Subvolume) lineage {
	l := findLineage(s.All...)
	l.oneKin = s.isHistoryOf(source)
	return l
}

// ancestors gives the source and all that it descends from.
func (s side) ancestors(source btrfs.Subvolume) ancestors {
	return findLineage(append(slices.Clone(s.All), source)...).ancestors(source)
}

// copiedTo gives the subvolumes of the folder that can be a parent, since they have copies, whatever their names.
func (s side) copiedTo(present copies) []btrfs.Subvolume {
	return slices.DeleteFunc(slices.Clone(s.InDirectory), func(sub btrfs.Subvolume) bool {
		return !sub.ReadOnly || len(present.of(sub)) == 0
	})
}

// holds gives the reasons in the ledger to keep the named subvolume.
func (s side) holds(name string) []string {
	if s.ledger == nil {
		return nil
	}
	var reasons []string
	for _, h := range s.ledger.Holds(name) {
		if h.Outstanding {
			reasons = append(reasons, "not yet at "+h.Destination)
		} else {
			reasons = append(reasons, "newest common with "+h.Destination)
		}
	}
	return reasons
}

// A planner plans for one destination.
type planner struct {
	source      btrfs.Subvolume
	snapshots   side // at the source
	backups     side // at the destination
	origins     map[btrfs.UUID]btrfs.UUID
	keep        retention.Policy
	now         time.Time
	writeOnly   bool             // the destination cannot be listed
	newestSent  *btrfs.Subvolume // to such a destination
	transfer    bool
	incremental bool
}

func (p planner) plan() Plan {
	present := findCopies(p.backups.InDirectory)
	own := p.ownBackups(present)
	missing, newest := p.missing(present, own)
	candidates := p.candidates(own, present, missing, newest)
	verdicts := retention.Decide(p.keep, p.now, candidates)

	plan := Plan{Leftovers: p.leftovers()}
	kept := make(map[string]bool)
	for _, v := range verdicts {
		kept[v.Name] = v.Keep
	}
	for _, s := range missing {
		if kept[s.Name] {
			plan.Transfers = append(plan.Transfers, Transfer{Snapshot: s})
		}
	}
	p.chooseParents(plan.Transfers, present)
	for _, b := range own {
		if keep, decided := kept[b.Name]; decided && !keep {
			plan.Delete = append(plan.Delete, b.Name)
		}
	}
	plan.Verdicts = append(p.foreign(own), verdicts...)
	return plan
}

// missing gives the snapshots that the destination lacks, in the order of sending, and the newest one that it holds or will.
func (p planner) missing(present copies, own []btrfs.Subvolume) (missing []btrfs.Subvolume, newest *btrfs.Subvolume) {
	for _, s := range p.snapshots.seriesOf(p.source) {
		has := len(present.of(s)) > 0
		taken := slices.ContainsFunc(own, func(b btrfs.Subvolume) bool { return b.Name == s.Name })
		if p.newestSent != nil && byAge(s, *p.newestSent) <= 0 {
			has = true
		}
		if !has && p.transfer {
			missing = append(missing, s)
		}
		if has || p.transfer && !taken {
			newest = &s
		}
	}
	if p.writeOnly && p.newestSent == nil && len(missing) > 0 {
		missing = missing[len(missing)-1:] // of what was there before, the newest will do
	}
	if !p.incremental && !p.writeOnly {
		slices.Reverse(missing)
	}
	return missing, newest
}

// candidates is what the policy is applied to: the source's own backups and the snapshots to come.
func (p planner) candidates(own []btrfs.Subvolume, present copies, missing []btrfs.Subvolume, newest *btrfs.Subvolume) []retention.Snapshot {
	hold := make(map[string]bool)
	if newest != nil {
		for _, b := range present.of(*newest) {
			hold[b.Name] = true
		}
	}
	var candidates []retention.Snapshot
	add := func(name string, held bool) {
		t, _ := p.backups.naming.Time(name)
		c := retention.Snapshot{Name: name, Time: t, Holds: p.backups.holds(name)}
		if held {
			c.Holds = append(c.Holds, "newest common with the source")
		}
		candidates = append(candidates, c)
	}
	taken := make(map[string]bool)
	for _, b := range own {
		taken[b.Name] = true
		add(b.Name, hold[b.Name])
	}
	for _, s := range missing {
		if !taken[s.Name] {
			add(s.Name, newest != nil && s.ID == newest.ID)
		}
	}
	return candidates
}

// chooseParents gives each transfer the parent that it has when those before it succeed.
func (p planner) chooseParents(transfers []Transfer, present copies) {
	if !p.incremental {
		return
	}
	l := p.snapshots.lineage(p.source)
	have := p.snapshots.copiedTo(present)
	for i, t := range transfers {
		if ladder := l.ladder(t.Snapshot, have); len(ladder) > 0 {
			transfers[i].Parent = &ladder[0]
		}
		have = append(have, t.Snapshot)
	}
}

// leftovers gives the unfinished backups of this series. With the folder locked nobody is working on them.
//
// One under its hidden name is never taken over, however complete it looks: after a power failure its last data may not
// be on disk. Earlier programs received under the final name.
func (p planner) leftovers() []string {
	var names []string
	for _, b := range p.backups.InDirectory {
		name, incoming := btrfs.IncomingOf(b.Name)
		if incoming && p.backups.naming.Ours(name) || isPartial(b) && p.backups.naming.Ours(b.Name) {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	return names
}

// ownBackups gives the complete backups of the series that are known to come from this source: copies of its snapshots,
// recorded as such, or linked to one of these by the parents that they were received with.
func (p planner) ownBackups(present copies) []btrfs.Subvolume {
	ancestors := p.snapshots.ancestors(p.source)
	copied, foreign := make(map[btrfs.UUID]bool), make(map[btrfs.UUID]bool)
	for _, s := range p.snapshots.InDirectory {
		for _, b := range present.of(s) {
			copied[b.UUID] = !ancestors.exclude(s)
			foreign[b.UUID] = ancestors.exclude(s)
		}
	}
	backups := slices.DeleteFunc(p.backups.series(), func(b btrfs.Subvolume) bool {
		return !isComplete(b) || foreign[b.UUID] || p.elsewhere(b)
	})
	l := findLineage(p.backups.All...) // the parent may be a copy in another folder
	own := make(map[btrfs.UUID]bool)
	for _, b := range p.backups.InDirectory {
		if origin := p.origins[b.ReceivedUUID]; copied[b.UUID] || !origin.IsZero() && origin == p.source.UUID {
			own[l.root(b)] = true
		}
	}
	return slices.DeleteFunc(backups, func(b btrfs.Subvolume) bool { return !own[l.root(b)] })
}

// elsewhere tells that a backup is on record as another source's.
func (p planner) elsewhere(b btrfs.Subvolume) bool {
	origin := p.origins[b.ReceivedUUID]
	return !origin.IsZero() && origin != p.source.UUID
}

// foreign gives the verdicts on subvolumes that have a name of the series but are not this source's backups.
func (p planner) foreign(own []btrfs.Subvolume) []retention.Verdict {
	var verdicts []retention.Verdict
	for _, b := range p.backups.series() {
		if slices.ContainsFunc(own, func(o btrfs.Subvolume) bool { return o.ID == b.ID }) {
			continue
		}
		reason := "not known to come from this source"
		switch {
		case !isComplete(b):
			reason = "not a received subvolume"
		case p.elsewhere(b):
			reason = "a backup of another source"
		}
		verdicts = append(verdicts, retention.Verdict{Name: b.Name, Keep: true, Reasons: []string{reason}})
	}
	return verdicts
}

// pruneSource decides on the snapshots. newest is the one that must stay because this run made or sent it, or "".
func pruneSource(source btrfs.Subvolume, s side, keep retention.Policy, now time.Time, newest string) []retention.Verdict {
	ancestors := s.ancestors(source)
	var foreign []retention.Verdict
	var candidates []retention.Snapshot
	for _, sub := range s.series() {
		if !ancestors.hold(sub) {
			foreign = append(foreign, retention.Verdict{Name: sub.Name, Keep: true, Reasons: []string{"a snapshot of another subvolume"}})
			continue
		}
		t, _ := s.naming.Time(sub.Name)
		c := retention.Snapshot{Name: sub.Name, Time: t, Holds: s.holds(sub.Name)}
		if sub.Name == newest {
			c.Holds = append(c.Holds, "the newest taken")
		}
		candidates = append(candidates, c)
	}
	return append(foreign, retention.Decide(keep, now, candidates)...)
}
