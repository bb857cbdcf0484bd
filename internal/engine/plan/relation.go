package plan

import (
	"iter"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// byUUID relates received subvolumes with the snapshots that they are backups of.
type byUUID struct {
	Planner
	pairs  copies.Finder
	series []btrfs.Subvolume // those at the source that can be sent, oldest first
	ours   []btrfs.Subvolume // the source's own backups
	common []btrfs.Subvolume // snapshots that have backups
	kin    kin.Lineage       // of the snapshots
	line   kin.Line          // of the source
}

func newByUUID(p Planner) relation {
	r := &byUUID{Planner: p, series: p.Snapshots.SeriesOf(p.Source), pairs: copies.New(p.Snapshots.All, p.Backups.Listing),
		kin: p.Snapshots.lineage(p.Source), line: p.Snapshots.Line(p.Source)}
	r.ours, r.common = r.ownBackups(), p.Snapshots.paired(r.pairs)
	return r
}

func (r *byUUID) versions() []btrfs.Subvolume { return r.series }

func (r *byUUID) holds(s btrfs.Subvolume) []string { return NamesOf(r.pairs.Of(s)) }

func (r *byUUID) own() []string { return NamesOf(r.ours) }

// NamesOf gives the names of subvolumes.
func NamesOf(subvolumes []btrfs.Subvolume) []string {
	var names []string
	for _, s := range subvolumes {
		names = append(names, s.Name)
	}
	return names
}

func (r *byUUID) needs(newest *btrfs.Subvolume) (names []string, reason string) {
	if newest == nil {
		return nil, ""
	}
	if names = r.holds(*newest); len(names) == 0 {
		names = []string{newest.Name}
	}
	return names, "newest common with the source"
}

// holdsWhole gives the names of those backups of a version that can be restored.
func (r *byUUID) holdsWhole(s btrfs.Subvolume) []string {
	return slices.DeleteFunc(r.holds(s), func(name string) bool { return r.Chains.lost(name) != "" })
}

func (r *byUUID) bases() bases {
	all := basesByUUID{kin.NewBases(r.kin, r.common), make(map[btrfs.UUID]int)}
	if r.Chains == nil {
		return &all
	}
	snapshots := make(map[string]*btrfs.Subvolume)
	for i := range r.common {
		for _, name := range r.holds(r.common[i]) {
			snapshots[name] = &r.common[i]
		}
	}
	return newTree(r.Planner, all, r.own(), snapshots)
}

type basesByUUID struct {
	kin.Bases
	alike map[btrfs.UUID]int // of what was sent: snapshots of what was received have one received UUID
}

func (b *basesByUUID) sent(s, _ *btrfs.Subvolume) {
	b.alike[s.Identity()]++
	b.Add(s)
}

func (b *basesByUUID) of(s *btrfs.Subvolume) iter.Seq[*btrfs.Subvolume] {
	return func(yield func(*btrfs.Subvolume) bool) {
		for c := range b.Of(s) {
			if b.isSingle(c) && !yield(c) {
				return
			}
		}
	}
}

// isSingle tells that the receiver cannot take another one for it.
func (b *basesByUUID) isSingle(base *btrfs.Subvolume) bool {
	id := base.Identity()
	return id.IsZero() || b.alike[id] < 2
}

// ownBackups gives the complete backups of the series that are known to come from this source: backups of its snapshots,
// recorded as such, or linked to one of these by the parents that they were received with. A clone's are built on another source's.
func (r *byUUID) ownBackups() []btrfs.Subvolume {
	paired, foreign := make(map[btrfs.UUID]bool), make(map[btrfs.UUID]bool)
	for _, s := range r.Snapshots.InDirectory {
		s.AlteredIn = 0 // what was altered since is a backup of the source nevertheless
		for _, b := range r.pairs.Of(s) {
			paired[b.UUID] = !r.line.Excludes(s)
			foreign[b.UUID] = r.line.Excludes(s)
		}
	}
	backups := slices.DeleteFunc(r.Backups.Series(), func(b btrfs.Subvolume) bool {
		return !copies.IsComplete(b) || foreign[b.UUID] || r.ofAnother(b) || r.Chains.lost(b.Name) != ""
	})
	l := kin.NewLineage(r.Backups.All) // the parent may be a copy in another folder
	own, families := make(map[btrfs.UUID]bool), make(map[btrfs.UUID]bool)
	for _, b := range r.Backups.InDirectory {
		if origin := r.originOf(b); paired[b.UUID] || !origin.IsZero() && r.line.UUIDs[origin] {
			own[b.UUID], families[l.Family(b)] = true, true
		}
	}
	return slices.DeleteFunc(backups, func(b btrfs.Subvolume) bool { return !own[b.UUID] && (r.line.Clone || !families[l.Family(b)]) })
}

// ofAnother tells that a backup is on record as another source's.
func (r *byUUID) ofAnother(b btrfs.Subvolume) bool {
	origin := r.originOf(b)
	return !origin.IsZero() && !r.line.UUIDs[origin]
}

func (r *byUUID) originOf(b btrfs.Subvolume) btrfs.UUID {
	return r.Snapshots.Record.Origins[b.ReceivedUUID]
}

func (r *byUUID) foreign() []retention.Verdict {
	var verdicts []retention.Verdict
	ours := setOf(r.own())
	for _, b := range r.Backups.Series() {
		if ours[b.Name] {
			continue
		}
		reason := "not known to come from this source"
		switch {
		case b.Received() && b.AlteredIn != 0:
			reason = "altered since it was received"
		case !copies.IsComplete(b):
			reason = "not a received subvolume"
		case r.ofAnother(b):
			reason = "a backup of another source"
		case r.Chains.lost(b.Name) != "":
			reason = r.Chains.lost(b.Name)
		}
		verdicts = append(verdicts, retention.Verdict{Name: b.Name, Keep: true, Held: true, Reasons: []string{reason}})
	}
	return verdicts
}

// byRecord knows the backups of a source without history by their records. The one version is the one to be saved.
type byRecord struct{ Planner }

func (r byRecord) versions() []btrfs.Subvolume { return r.Snapshots.InDirectory }

func (r byRecord) holds(btrfs.Subvolume) []string { return nil }

func (r byRecord) own() (names []string) {
	for _, c := range r.series() {
		if c.OfAnother == "" {
			names = append(names, c.Name)
		}
	}
	return names
}

func (r byRecord) foreign() (verdicts []retention.Verdict) {
	for _, c := range r.series() {
		if c.OfAnother != "" {
			verdicts = append(verdicts, retention.Verdict{Name: c.Name, Keep: true, Held: true, Reasons: []string{"a backup of " + c.OfAnother}})
		}
	}
	for _, name := range r.Taken {
		if r.Backups.Naming.Ours(name) {
			verdicts = append(verdicts, retention.Verdict{Name: name, Keep: true, Held: true, Reasons: []string{"no record of it"}})
		}
	}
	return verdicts
}

func (r byRecord) series() []Recorded {
	return slices.DeleteFunc(slices.Clone(r.Recorded), func(c Recorded) bool { return !r.Backups.Naming.Ours(c.Name) })
}

const newestComplete = "the newest complete one"

// needs names the newest complete backup, however many incomplete ones came after it.
func (r byRecord) needs(newest *btrfs.Subvolume) (names []string, reason string) {
	reason = newestComplete
	if newest != nil && !r.Incomplete {
		return []string{newest.Name}, reason
	}
	for _, c := range slices.Backward(r.series()) {
		if c.Complete && c.OfAnother == "" {
			return []string{c.Name}, reason
		}
	}
	return nil, reason
}

// bases gives the source's backup that was finished last, or else that of whatever source: files that they share need not be copied.
func (r byRecord) bases() bases {
	names := r.own()
	if series := r.series(); len(names) == 0 && len(series) > 0 {
		names = []string{series[len(series)-1].Name}
	}
	if len(names) == 0 {
		return theBase{}
	}
	return theBase{&btrfs.Subvolume{Name: names[len(names)-1]}}
}

// theBase is one upon which any version can be built.
type theBase []*btrfs.Subvolume

func (b theBase) of(*btrfs.Subvolume) iter.Seq[*btrfs.Subvolume] { return slices.Values(b) }
func (b theBase) sent(_, _ *btrfs.Subvolume)                     {}
