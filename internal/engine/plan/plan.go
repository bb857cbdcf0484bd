// Package plan decides what is to be done at one destination: what it lacks and what that is built upon, what stays there and what
// goes. It is pure: it is told what both sides hold, and the time.
//
// Subvolumes are paired by UUID, backups of directories are known by their records; names only sort and select.
package plan

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Recorded is a backup of a directory, known by its record alone.
type Recorded struct {
	Name      string
	Complete  bool
	OfAnother string // names the source, if it is another one
}

// A Plan is the work to be done at one destination.
type Plan struct {
	Leftovers []string // what earlier runs left unfinished; deleted first
	Transfers []Transfer
	Verdicts  []retention.Verdict // on the backups, those to come included
	Foreign   []retention.Verdict // those of them on what has a name of the series, and the policy does not apply to
	Delete    []string            // deleted last, when every transfer succeeded
	InTheWay  []string            // versions that cannot be saved, since something else has their name; oldest first
	Blocked   bool                // one of them is the newest version
}

// A Side is one listed folder.
type Side struct {
	btrfs.Listing
	Naming Naming
	Ledger *lock.Ledger // nil if it could not be read
	File   *lock.Ledger // what its file says instead, if that could not be written
	InUse  map[string]string
	Record kin.Record // for the snapshots of a source
	// Relayed are the sources that all there are backups of, if they are: see engine.Snapshots.
	Relayed []btrfs.UUID
}

// CanBeSent tells that a stream of s is what it says. That of one which was altered since it was received would bear the UUID
// of what it is not any more. One that was never received may have been altered on purpose before, as copies by rsync are.
func CanBeSent(s btrfs.Subvolume) bool { return s.AlteredIn == 0 || s.ReceivedUUID.IsZero() }

// Series gives the read-only subvolumes of the series, oldest first.
func (s Side) Series() []btrfs.Subvolume {
	ours := make([]btrfs.Subvolume, 0, len(s.InDirectory))
	for i := range s.InDirectory {
		if sub := &s.InDirectory[i]; sub.ReadOnly && s.Naming.Ours(sub.Name) {
			ours = append(ours, *sub)
		}
	}
	slices.SortFunc(ours, kin.ByAge)
	return ours
}

// SeriesOf gives those of the series that can be snapshots of the source.
func (s Side) SeriesOf(source btrfs.Subvolume) []btrfs.Subvolume {
	return slices.DeleteFunc(s.TakenOf(source), func(sub btrfs.Subvolume) bool { return !CanBeSent(sub) })
}

// TakenOf gives those that are snapshots of the source, whatever was done to them since.
func (s Side) TakenOf(source btrfs.Subvolume) []btrfs.Subvolume {
	if s.IsHistoryOf(source) {
		return s.Series()
	}
	return slices.DeleteFunc(s.Series(), s.Line(source).Excludes)
}

// Line gives the source and those whose history it continues.
func (s Side) Line(source btrfs.Subvolume) kin.Line {
	l := kin.NewLine(source, s.Listing, s.Record)
	for _, uuid := range s.Relayed {
		l.All, l.UUIDs[uuid] = true, true
	}
	return l
}

// IsHistoryOf tells that all there are versions of the source, since they are backups of it, or since it is itself one of the
// snapshots: each was made from the one before it, as copies by rsync are. When some of them have been deleted, nothing else tells that the others are of one kin.
func (s Side) IsHistoryOf(source btrfs.Subvolume) bool {
	return len(s.Relayed) > 0 || !source.UUID.IsZero() && slices.ContainsFunc(s.InDirectory, func(sub btrfs.Subvolume) bool {
		return sub.UUID == source.UUID && sub.ReadOnly
	})
}

// lineage tells which snapshots can be parents of each other.
func (s Side) lineage(source btrfs.Subvolume) kin.Lineage {
	l := kin.NewLineage(s.All)
	l.OneKin = s.IsHistoryOf(source)
	return l
}

// paired gives the subvolumes of the folder that can be a parent, since they have backups, whatever their names.
func (s Side) paired(pairs copies.Finder) []btrfs.Subvolume {
	return slices.DeleteFunc(slices.Clone(s.InDirectory), func(sub btrfs.Subvolume) bool {
		return !sub.ReadOnly || !CanBeSent(sub) || len(pairs.Of(sub)) == 0
	})
}

// holds gives the reasons to keep the named subvolume that no policy knows: what the ledger says, and what it is used for.
func (s Side) holds(name string) []string {
	var reasons []string
	if why, ok := s.InUse[name]; ok {
		reasons = append(reasons, why)
	}
	for _, l := range []*lock.Ledger{s.Ledger, s.File} {
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

// A Planner plans for one destination.
type Planner struct {
	History     bool              // the source keeps its versions as snapshots; else there is only the one to be saved
	Source      btrfs.Subvolume   // of a history
	Snapshots   Side              // at the source
	Backups     Side              // at the destination
	MayLive     map[string]string // why backups of what else the source was must stay, since that may live
	Recorded    []Recorded        // at the destination, of a source without history
	Deleting    []string          // hidden names there of backups whose deletion began
	Taken       []string          // names there of what is no backup
	Chains      *Chains           // how the backups there build on each other; nil: each is complete in itself
	Keep        retention.Policy
	Keeps       retention.Policy // by which the destination itself deletes, in the order of arrival
	Now         time.Time
	WriteOnly   bool             // the destination cannot be listed
	NewestSent  *btrfs.Subvolume // to such a destination
	Transfer    bool
	Incremental bool
	Incomplete  bool                 // the version that was saved is not complete
	Clean       bool                 // delete partial backups under final names, too
	Peers       []retention.Snapshot // what others hold at the same place, on which is decided together; see DecideAmong
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
	bases() bases
}

// bases are the versions that others can build upon.
type bases interface {
	// of gives those for a version, the best one first.
	of(s *btrfs.Subvolume) iter.Seq[*btrfs.Subvolume]
	// sent lets a version that was built on a parent, or none, count as being there, too.
	sent(s, parent *btrfs.Subvolume)
}

func (p Planner) relation() relation {
	if p.History {
		return newByUUID(p)
	}
	return byRecord{p}
}

// Plan makes the plan.
func (p Planner) Plan() Plan {
	r := p.relation()
	own := r.own()
	missing, inTheWay, newest := p.missing(r)
	verdicts := p.decide(r, p.candidates(r, own, missing, newest), setOf(own))

	plan := Plan{Leftovers: p.leftovers()}
	plan.InTheWay, plan.Blocked = p.inTheWay(r, own, missing, inTheWay, newest)
	kept := keptOf(verdicts)
	if missing = slices.DeleteFunc(missing, func(s btrfs.Subvolume) bool { return !kept[s.Name] }); len(missing) > 0 {
		plan.Transfers = p.transfers(r.bases(), missing)
		verdicts = HoldChains(verdicts, p.withPlanned(r, plan.Transfers))
		kept = keptOf(verdicts)
	}
	for _, name := range own {
		if keep, decided := kept[name]; decided && !keep {
			plan.Delete = append(plan.Delete, name)
		}
	}
	again := setOf(NamesOf(missing))
	plan.Foreign = slices.DeleteFunc(r.foreign(), func(v retention.Verdict) bool { return again[v.Name] && p.Chains.lost(v.Name) != "" })
	plan.Verdicts = slices.Concat(plan.Foreign, verdicts)
	return plan
}

// decide gives the verdicts on the source's own backups and those to come.
func (p Planner) decide(r relation, candidates []retention.Snapshot, own map[string]bool) []retention.Verdict {
	verdicts := DecideAmong(p.Keep, p.Now, candidates, p.Peers)
	there := p.decideThere(r, candidates)
	for i, v := range verdicts {
		if !there[v.Name] && !own[v.Name] { // what it has already is its own to delete
			reason := fmt.Sprintf("the destination would delete it: it keeps %s of what arrives", p.Keeps)
			verdicts[i] = retention.Verdict{Name: v.Name, Reasons: []string{reason}}
		}
	}
	return HoldChains(verdicts, p.Chains)
}

// decideThere tells which of the candidates the destination will keep, when it counts those to come in the order in which they were
// made. By the calendar it counts their arrival, as that of what it has let go: that would be new to it each time, and is left out.
func (p Planner) decideThere(r relation, candidates []retention.Snapshot) map[string]bool {
	if p.Keeps == (retention.Policy{}) {
		return setOf(namesOf(candidates))
	}
	age := make(map[string]int)
	for i, s := range r.versions() {
		for _, name := range append(r.holds(s), s.Name) {
			age[name] = i + 1
		}
	}
	byCalendar := p.Keeps != (retention.Policy{Last: p.Keeps.Last})
	arrived := make(map[string]time.Time)
	for _, b := range p.Backups.InDirectory {
		arrived[b.Name] = b.Created
	}
	newest := 0 // of those that are there
	for _, c := range candidates {
		if _, here := arrived[c.Name]; here {
			newest = max(newest, age[c.Name])
		}
	}
	byAge := slices.Clone(candidates)
	slices.SortStableFunc(byAge, func(a, b retention.Snapshot) int { return cmp.Compare(age[a.Name], age[b.Name]) })
	var there []retention.Snapshot
	for i, c := range byAge {
		at, here := arrived[c.Name]
		switch {
		case byCalendar && !here && age[c.Name] < newest:
			continue
		case !byCalendar || !here:
			at = p.Now
		}
		there = append(there, retention.Snapshot{Name: c.Name, Time: at, Number: i, Holds: c.Holds})
	}
	return keptOf(retention.Decide(p.Keeps, p.Now, there))
}

func namesOf(snapshots []retention.Snapshot) (names []string) {
	for _, s := range snapshots {
		names = append(names, s.Name)
	}
	return names
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
func (p Planner) missing(r relation) (missing, inTheWay []btrfs.Subvolume, newest *btrfs.Subvolume) {
	taken := p.takenNames()
	versions := r.versions()
	for i := range versions {
		s := &versions[i]
		holds := r.holds(*s)
		has, lost := len(holds) > 0, !slices.ContainsFunc(holds, func(name string) bool { return p.Chains.lost(name) == "" })
		if p.NewestSent != nil && kin.ByAge(*s, *p.NewestSent) <= 0 {
			has, lost = true, false
		}
		switch {
		case has && lost && (!p.Transfer || p.heals(versions, holds)):
		case has && lost:
			missing = append(missing, *s)
			newest = s
		case has:
			newest = s
		case !p.Transfer:
		case taken[s.Name]:
			inTheWay = append(inTheWay, *s)
		default:
			missing = append(missing, *s)
			newest = s
		}
	}
	if p.WriteOnly && p.NewestSent == nil && len(missing) > 0 {
		missing = missing[len(missing)-1:] // of what was there before, the newest will do
	}
	if !p.Incremental && !p.WriteOnly {
		slices.Reverse(missing)
	}
	return missing, inTheWay, newest
}

// heals tells that a version at the source is what backups lack that cannot be restored: they can as soon as that is saved.
func (p Planner) heals(versions []btrfs.Subvolume, backups []string) bool {
	return slices.ContainsFunc(backups, func(name string) bool {
		_, lost := p.Chains.Line(name)
		return slices.ContainsFunc(versions, func(s btrfs.Subvolume) bool { return s.Name == lost || s.Identity().String() == lost })
	})
}

// takenNames gives the names at the destination that no version can get. Leftovers are deleted first.
func (p Planner) takenNames() map[string]bool {
	taken := setOf(append(NamesOf(p.Backups.InDirectory), p.Taken...))
	for _, name := range p.leftovers() {
		delete(taken, name)
	}
	return taken
}

// inTheWay names those of the versions in the way that the policy would keep, and tells whether the newest of all is one.
func (p Planner) inTheWay(r relation, own []string, missing, all []btrfs.Subvolume, newest *btrfs.Subvolume) (
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
func (p Planner) candidates(r relation, own []string, missing []btrfs.Subvolume, newest *btrfs.Subvolume) []retention.Snapshot {
	var candidates []retention.Snapshot
	needed, reason := r.needs(newest)
	mayLive := p.mayLive()
	whole := p.lastWhole(r, own, newest)
	taken := setOf(own)
	add := func(name string) {
		c, _ := p.Backups.Naming.Snapshot(name)
		c.Holds = p.Backups.holds(name)
		if slices.Contains(needed, name) {
			c.Holds = append(c.Holds, reason)
		}
		if why, ok := mayLive[name]; ok {
			c.Holds = append(c.Holds, why)
		}
		if name == whole {
			c.Holds = append(c.Holds, newestComplete)
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
func (p Planner) leftovers() []string {
	names := slices.Clone(p.Deleting)
	for _, b := range p.Backups.InDirectory {
		if name, incoming := btrfs.IncomingOf(b.Name); incoming && p.Backups.Naming.Ours(name) {
			names = append(names, b.Name)
		}
	}
	if p.Clean {
		names = append(names, p.Partial()...)
	}
	slices.Sort(names)
	return names
}

// Partial gives the writable subvolumes under final names of the series that were not received completely: `btrfs receive` sets the
// received UUID at the very end. Earlier programs left such ones, but a user may have made them.
func (p Planner) Partial() []string {
	var names []string
	for _, b := range p.Backups.InDirectory {
		if !b.ReadOnly && b.ReceivedUUID.IsZero() && p.Backups.Naming.Ours(b.Name) {
			names = append(names, b.Name)
		}
	}
	return names
}

// Considered are the snapshots of a source.
type Considered struct {
	Candidates []retention.Snapshot
	Foreign    []retention.Verdict // on those that no policy applies to
}

// Consider finds what the retention applies to. newest is the one that must stay because this run made or sent it, or "".
func Consider(source btrfs.Subvolume, s Side, newest string) (all Considered) {
	line, isHistory := s.Line(source), s.IsHistoryOf(source)
	for _, sub := range s.Series() {
		reason := ""
		switch {
		case !line.Holds(sub):
			reason = "a snapshot of another subvolume"
		case sub.AlteredIn != 0 && !isHistory:
			reason = "altered since it was taken"
		}
		if reason != "" {
			all.Foreign = append(all.Foreign, retention.Verdict{Name: sub.Name, Keep: true, Held: true, Reasons: []string{reason}})
			continue
		}
		c, _ := s.Naming.Snapshot(sub.Name)
		c.Holds = s.holds(sub.Name)
		if sub.Name == newest {
			c.Holds = append(c.Holds, "the newest taken")
		}
		all.Candidates = append(all.Candidates, c)
	}
	return all
}

// DecideAmong decides as if the peers were there, too: what holds one of a name holds all of it.
func DecideAmong(keep retention.Policy, now time.Time, candidates, peers []retention.Snapshot) []retention.Verdict {
	own := make(map[string]bool)
	for _, c := range candidates {
		own[c.Name] = true
	}
	all := retention.Merge(candidates, peers)
	return slices.DeleteFunc(retention.Decide(keep, now, all), func(v retention.Verdict) bool { return !own[v.Name] })
}

// PastName gives the way forward where what has a name is no copy of the version. A good backup, of whatever, is not moved away: others
// may build upon it.
func (p Planner) PastName(name string) string {
	for _, s := range p.Backups.InDirectory {
		if s.Name == name && s.ReadOnly && s.Received() && CanBeSent(s) {
			return "it is a backup of another snapshot, taken in the same second: run again, and --snapshot-prefix for one of two sources " +
				"keeps their names apart"
		}
	}
	return "move it away or rename it, or use --clean-partial if an interrupted btrfs receive left it"
}

// Candidates is what the policy is applied to: the source's own backups, and the versions to come. What peers hold plays no part.
func (p Planner) Candidates() []retention.Snapshot {
	p.Peers = nil
	r := p.relation()
	missing, _, newest := p.missing(r)
	candidates := p.candidates(r, r.own(), missing, newest)
	if p.Chains == nil {
		return candidates
	}
	for _, v := range p.decide(r, candidates, setOf(r.own())) { // so that others keep what is kept for others of this one
		for i := range candidates {
			if c := &candidates[i]; c.Name == v.Name && v.Held && len(c.Holds) == 0 {
				c.Holds = v.Reasons
			}
		}
	}
	return candidates
}
