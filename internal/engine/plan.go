package engine

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine/copies"
	"btrfs-backup/internal/engine/kin"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// A Plan is the work to be done at one destination.
type Plan struct {
	Leftovers []string // what earlier runs left unfinished; deleted first
	Transfers []Transfer
	Verdicts  []retention.Verdict // on the backups, those to come included
	Delete    []string            // deleted last, when every transfer succeeded
	InTheWay  []string            // versions that cannot be saved, since something else has their name; oldest first
	Blocked   bool                // one of them is the newest version
}

// A side is one listed folder.
type side struct {
	btrfs.Listing
	naming Naming
	ledger *lock.Ledger // nil if it could not be read
	file   *lock.Ledger // what its file says instead, if that could not be written
	inUse  map[string]string
	record kin.Record // for the snapshots of a source
}

// canBeSent tells that a stream of s is what it says. That of one which was altered since it was received would bear the UUID
// of what it is not any more. One that was never received may have been altered on purpose before, as copies by rsync are.
func canBeSent(s btrfs.Subvolume) bool { return s.AlteredIn == 0 || s.ReceivedUUID.IsZero() }

// series gives the read-only subvolumes of the series, oldest first.
func (s side) series() []btrfs.Subvolume {
	var ours []btrfs.Subvolume
	for _, sub := range s.InDirectory {
		if sub.ReadOnly && s.naming.Ours(sub.Name) {
			ours = append(ours, sub)
		}
	}
	slices.SortFunc(ours, kin.ByAge)
	return ours
}

// seriesOf gives those of the series that can be snapshots of the source.
func (s side) seriesOf(source btrfs.Subvolume) []btrfs.Subvolume {
	return slices.DeleteFunc(s.takenOf(source), func(sub btrfs.Subvolume) bool { return !canBeSent(sub) })
}

func (s side) takenOf(source btrfs.Subvolume) []btrfs.Subvolume {
	if s.isHistoryOf(source) {
		return s.series()
	}
	return slices.DeleteFunc(s.series(), s.line(source).Excludes)
}

// line gives the source and those whose history it continues.
func (s side) line(source btrfs.Subvolume) kin.Line { return kin.NewLine(source, s.Listing, s.record) }

// isHistoryOf tells that the source is itself one of the snapshots: each was made from the one before it, as copies by rsync
// are. When some of them have been deleted, nothing else tells that the others are of one kin.
func (s side) isHistoryOf(source btrfs.Subvolume) bool {
	return !source.UUID.IsZero() && slices.ContainsFunc(s.InDirectory, func(sub btrfs.Subvolume) bool {
		return sub.UUID == source.UUID && sub.ReadOnly
	})
}

// lineage tells which snapshots can be parents of each other.
func (s side) lineage(source btrfs.Subvolume) kin.Lineage {
	l := kin.NewLineage(s.All)
	l.OneKin = s.isHistoryOf(source)
	return l
}

// paired gives the subvolumes of the folder that can be a parent, since they have backups, whatever their names.
func (s side) paired(pairs copies.Finder) []btrfs.Subvolume {
	return slices.DeleteFunc(slices.Clone(s.InDirectory), func(sub btrfs.Subvolume) bool {
		return !sub.ReadOnly || !canBeSent(sub) || len(pairs.Of(sub)) == 0
	})
}

// holds gives the reasons to keep the named subvolume that no policy knows: what the ledger says, and what it is used for.
func (s side) holds(name string) []string {
	var reasons []string
	if why, ok := s.inUse[name]; ok {
		reasons = append(reasons, why)
	}
	for _, l := range []*lock.Ledger{s.ledger, s.file} {
		if l == nil {
			continue
		}
		for _, h := range l.Holds(name) {
			if reason := h.String(); !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
	}
	return reasons
}

// A planner plans for one destination.
type planner struct {
	history     bool            // the source keeps its versions as snapshots; else there is only the one to be saved
	source      btrfs.Subvolume // of a history
	snapshots   side            // at the source
	backups     side            // at the destination
	recorded    []Recorded      // at the destination, of a source without history
	deleting    []string        // there, see Contents
	taken       []string        // names there of what is no backup
	keep        retention.Policy
	keepsLast   int // how many of the newest the destination keeps by itself; 0: all
	now         time.Time
	writeOnly   bool             // the destination cannot be listed
	newestSent  *btrfs.Subvolume // to such a destination
	transfer    bool
	incremental bool
	incomplete  bool // the version that was saved is not complete
	clean       bool // delete partial backups under final names, too
}

// A relation tells what a destination holds of a source.
type relation interface {
	// versions gives those at the source that can be saved, oldest first.
	versions() []btrfs.Subvolume
	// holds gives the names of the backups of a version.
	holds(s btrfs.Subvolume) []string
	// own gives the names of the backups that are certainly the source's, oldest first; foreign the verdicts on the other backups
	// that have a name of the series.
	own() []string
	foreign() []retention.Verdict
	// needs gives the names of what must stay, and why. Newest is the newest version that the destination holds or will.
	needs(newest *btrfs.Subvolume) (names []string, reason string)
	// bases gives the versions that s can build upon when those in sent are there too, the best one first.
	bases(s btrfs.Subvolume, sent []btrfs.Subvolume) []btrfs.Subvolume
}

func (p planner) relation() relation {
	if p.history {
		return newByUUID(p)
	}
	return byRecord{p}
}

func (p planner) plan() Plan {
	r := p.relation()
	own := r.own()
	missing, inTheWay, newest := p.missing(r)
	verdicts := p.decide(r, p.candidates(r, own, missing, newest), setOf(own))

	plan := Plan{Leftovers: p.leftovers()}
	plan.InTheWay, plan.Blocked = p.inTheWay(r, own, missing, inTheWay, newest)
	kept := keptOf(verdicts)
	var sent []btrfs.Subvolume
	for _, s := range missing {
		if !kept[s.Name] {
			continue
		}
		t := Transfer{Snapshot: s}
		if p.incremental {
			if bases := r.bases(s, sent); len(bases) > 0 {
				t.Parent = &bases[0]
			}
		}
		plan.Transfers = append(plan.Transfers, t)
		sent = append(sent, s)
	}
	for _, name := range own {
		if keep, decided := kept[name]; decided && !keep {
			plan.Delete = append(plan.Delete, name)
		}
	}
	plan.Verdicts = append(r.foreign(), verdicts...)
	return plan
}

// decide gives the verdicts on the source's own backups and those to come.
func (p planner) decide(r relation, candidates []retention.Snapshot, own map[string]bool) []retention.Verdict {
	verdicts := retention.Decide(p.keep, p.now, candidates)
	there := p.decideThere(r, candidates)
	for i, v := range verdicts {
		if !there[v.Name] && !own[v.Name] { // what it has already is its own to delete
			reason := fmt.Sprintf("older than the newest %d, which the destination keeps", p.keepsLast)
			verdicts[i] = retention.Verdict{Name: v.Name, Reasons: []string{reason}}
		}
	}
	return verdicts
}

// decideThere tells which of the candidates the destination will keep, when it counts them in the order in which they were made.
func (p planner) decideThere(r relation, candidates []retention.Snapshot) map[string]bool {
	age := make(map[string]int)
	for i, s := range r.versions() {
		for _, name := range append(r.holds(s), s.Name) {
			age[name] = i + 1
		}
	}
	byAge := slices.Clone(candidates)
	slices.SortStableFunc(byAge, func(a, b retention.Snapshot) int { return cmp.Compare(age[a.Name], age[b.Name]) })
	return keptOf(retention.DecideInOrder(p.keepsLast, byAge))
}

// keptOf tells by name what stays.
func keptOf(verdicts []retention.Verdict) map[string]bool {
	kept := make(map[string]bool)
	for _, v := range verdicts {
		kept[v.Name] = v.Keep
	}
	return kept
}

// missing gives the versions that the destination lacks, in the order of sending, those that cannot be saved since their names
// are taken, and the newest one that it holds or will.
func (p planner) missing(r relation) (missing, inTheWay []btrfs.Subvolume, newest *btrfs.Subvolume) {
	taken := p.takenNames()
	for _, s := range r.versions() {
		has := len(r.holds(s)) > 0
		if p.newestSent != nil && kin.ByAge(s, *p.newestSent) <= 0 {
			has = true
		}
		switch {
		case has:
			newest = &s
		case !p.transfer:
		case taken[s.Name]:
			inTheWay = append(inTheWay, s)
		default:
			missing = append(missing, s)
			newest = &s
		}
	}
	if p.writeOnly && p.newestSent == nil && len(missing) > 0 {
		missing = missing[len(missing)-1:] // of what was there before, the newest will do
	}
	if !p.incremental && !p.writeOnly {
		slices.Reverse(missing)
	}
	return missing, inTheWay, newest
}

// takenNames gives the names at the destination that no version can get. Leftovers are deleted first.
func (p planner) takenNames() map[string]bool {
	taken := setOf(append(namesOf(p.backups.InDirectory), p.taken...))
	for _, name := range p.leftovers() {
		delete(taken, name)
	}
	return taken
}

// inTheWay names those of the versions in the way that the policy would keep, and tells whether the newest of all is one.
func (p planner) inTheWay(r relation, own []string, missing, all []btrfs.Subvolume, newest *btrfs.Subvolume) (
	names []string, blocked bool,
) {
	if len(all) == 0 {
		return nil, false
	}
	kept := keptOf(p.decide(r, p.candidates(r, own, slices.Concat(missing, all), newest), setOf(own)))
	versions := r.versions()
	for _, s := range all {
		if last := s.ID == versions[len(versions)-1].ID; last || kept[s.Name] {
			names = append(names, s.Name)
			blocked = blocked || last
		}
	}
	return names, blocked
}

// candidates is what the policy is applied to: the source's own backups and the versions to come.
func (p planner) candidates(r relation, own []string, missing []btrfs.Subvolume, newest *btrfs.Subvolume) []retention.Snapshot {
	var candidates []retention.Snapshot
	needed, reason := r.needs(newest)
	taken := setOf(own)
	add := func(name string) {
		t, _ := p.backups.naming.Time(name)
		c := retention.Snapshot{Name: name, Time: t, Holds: p.backups.holds(name)}
		if slices.Contains(needed, name) {
			c.Holds = append(c.Holds, reason)
		}
		candidates = append(candidates, c)
	}
	for _, name := range own {
		add(name)
	}
	for _, s := range missing {
		if !taken[s.Name] {
			add(s.Name)
		}
	}
	return candidates
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// leftovers gives the unfinished backups of this series. Since the folder is locked, no run is working on them. One under its
// hidden name is never taken over, however complete it looks: after a power failure its last data may not be on disk.
func (p planner) leftovers() []string {
	names := slices.Clone(p.deleting)
	for _, b := range p.backups.InDirectory {
		if name, incoming := btrfs.IncomingOf(b.Name); incoming && p.backups.naming.Ours(name) {
			names = append(names, b.Name)
		}
	}
	if p.clean {
		names = append(names, p.partial()...)
	}
	slices.Sort(names)
	return names
}

// partial gives the writable subvolumes under final names of the series that were not received completely: `btrfs receive` sets the
// received UUID at the very end. Earlier programs left such ones, but a user may have made them.
func (p planner) partial() []string {
	var names []string
	for _, b := range p.backups.InDirectory {
		if !b.ReadOnly && b.ReceivedUUID.IsZero() && p.backups.naming.Ours(b.Name) {
			names = append(names, b.Name)
		}
	}
	return names
}

// pruneSource decides on the snapshots. newest is the one that must stay because this run made or sent it, or "".
func pruneSource(source btrfs.Subvolume, s side, keep retention.Policy, now time.Time, newest string) []retention.Verdict {
	line := s.line(source)
	var foreign []retention.Verdict
	var candidates []retention.Snapshot
	for _, sub := range s.series() {
		reason := ""
		switch {
		case !line.Holds(sub):
			reason = "a snapshot of another subvolume"
		case sub.AlteredIn != 0 && !s.isHistoryOf(source):
			reason = "altered since it was taken"
		}
		if reason != "" {
			foreign = append(foreign, retention.Verdict{Name: sub.Name, Keep: true, Held: true, Reasons: []string{reason}})
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
