package inventory

import (
	"cmp"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Policy tells what is to stay of the entries of a place.
type Policy struct {
	Prefix    string // of their names
	Snapshots retention.Policy
	Backups   retention.Policy
	Rule      string // by which both are taken; see retention.Policy.As, which must accept it
	Days      int    // to look ahead
}

// A Decided is what a policy makes of one snapshot, backup, or set.
type Decided struct {
	Place string `json:"place"`
	retention.Verdict
	Time   time.Time `json:"time,omitzero"`
	Kind   Kind      `json:"kind"`
	Source string    `json:"source,omitempty"` // of a backup made by rsync
	Goes   time.Time `json:"goes,omitzero"`    // when a run will delete what it keeps now
}

// A scope is what a policy is applied to.
type scope struct {
	engine.Naming
	kind   Kind
	source string
}

// Decide applies a policy to what the place holds, and gives the newest first. Of a folder of sets it decides on these.
func (p Place) Decide(o Policy, now time.Time) ([]Decided, error) {
	switch {
	case len(p.Sets) > 0:
		return p.decideSets(o, now)
	case p.Streams != nil:
		return p.decideStreams(o, now), nil
	}
	return p.decide(o, now)
}

func (p Place) decide(o Policy, now time.Time) ([]Decided, error) {
	holds, holdsErr := p.Holds()
	source, sourceErr := p.sources()
	if err := errors.Join(holdsErr, sourceErr); err != nil {
		return nil, err
	}
	var all []Decided
	candidates := make(map[scope][]retention.Snapshot)
	described := make(map[string]Decided)
	for _, l := range p.Entries(o.Prefix) {
		if l.Kind != Snapshot && l.Kind != Backup {
			continue
		}
		e := Decided{Place: l.Place, Time: l.Time, Kind: l.Kind, Source: l.Source, Verdict: retention.Verdict{Name: l.Name, Keep: true}}
		naming, dated := engine.NamingOf(l.Name)
		candidate, _ := naming.Snapshot(l.Name)
		switch {
		case l.Altered && l.Kind == Snapshot:
			e.Reasons = []string{"altered since it was taken"}
		case l.Altered:
			e.Reasons = []string{"altered since it was received"}
		case !dated:
			e.Reasons = []string{"its name has no date"}
		default:
			of := scope{naming, l.Kind, source(l.Name)}
			candidate.Holds = holds[l.Name]
			candidates[of] = append(candidates[of], candidate)
			described[l.Name] = e
			continue
		}
		all = append(all, e)
	}
	for of, candidates := range candidates {
		p.holdComplete(candidates)
		policy := o.Backups
		if of.kind == Snapshot {
			policy = o.Snapshots
		}
		o.decide(policy, now, candidates, func(v retention.Verdict, goes time.Time) {
			e := described[v.Name]
			e.Verdict, e.Goes = v, goes
			all = append(all, e)
		})
	}
	sortNewestFirst(all)
	return all, nil
}

// IsMember tells that a folder below is that of a member of a set.
func (p Place) IsMember(below Place) bool {
	return slices.ContainsFunc(p.Sets, func(s host.Set) bool { return slices.Contains(s.Members, path.Base(below.Folder)) })
}

// decideSets applies the policy to the backups of all members as to one.
func (p Place) decideSets(o Policy, now time.Time) (all []Decided, err error) {
	var candidates []retention.Snapshot
	for _, below := range slices.DeleteFunc(slices.Clone(p.Below), func(b Place) bool { return !p.IsMember(b) }) {
		holds, err := below.Holds()
		if err != nil {
			return nil, err
		}
		own := []retention.Snapshot{}
		for _, l := range below.Entries(o.Prefix) {
			if naming, dated := engine.NamingOf(l.Name); dated && l.Kind == Backup && !l.Altered {
				s, _ := naming.Snapshot(l.Name)
				s.Holds = holds[l.Name]
				own = append(own, s)
			}
		}
		below.holdComplete(own)
		candidates = append(candidates, own...)
	}
	for _, s := range slices.Backward(p.Sets) {
		if naming, dated := engine.NamingOf(s.Name); dated && len(s.Missing) == 0 {
			newest, _ := naming.Snapshot(s.Name)
			newest.Holds = []string{"the newest complete set"}
			candidates = append(candidates, newest)
			break
		}
	}
	add := func(v retention.Verdict, goes time.Time) {
		all = append(all, Decided{Place: p.Folder, Verdict: v, Time: TimeIn(v.Name), Kind: Set, Goes: goes})
	}
	o.decide(o.Backups, now, retention.Merge(candidates), add)
	for _, s := range p.sets(o.Prefix) {
		if len(s.Missing) == len(s.Members) { // which a run removes, whatever the policy
			add(retention.Verdict{Name: s.Name, Reasons: []string{"its backups are gone"}}, time.Time{})
		}
	}
	sortNewestFirst(all)
	return all, nil
}

// decide tells of each candidate what a policy makes of it, and when it will go.
func (o Policy) decide(policy retention.Policy, now time.Time, candidates []retention.Snapshot, tell func(v retention.Verdict, goes time.Time)) {
	policy, _ = policy.As(o.Rule) // which was checked
	goes := retention.Forecast(policy, now, candidates, retention.Interval(now, candidates), now.AddDate(0, 0, o.Days))
	for _, v := range retention.Decide(policy, now, candidates) {
		tell(v, goes[v.Name])
	}
}

func sortNewestFirst(all []Decided) {
	slices.SortFunc(all, func(a, b Decided) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Name, b.Name)) })
}

// sources gives the function that identifies the source of what has a name in the place.
func (p Place) sources() (func(name string) string, error) {
	sourceOf, err := p.subvolumeSources()
	if err != nil {
		return nil, err
	}
	subvolumes := make(map[string]btrfs.Subvolume)
	for _, s := range p.InDirectory {
		subvolumes[s.Name] = s
	}
	return func(name string) string {
		record, ok := p.record(name)
		if !ok {
			return sourceOf(subvolumes[name]).String()
		}
		for _, r := range slices.Backward(p.Trees.Backups) { // the newest has the name that the machine has now
			if r.Same(record.Origin) {
				return r.Source
			}
		}
		return record.Source
	}, nil
}

// holdComplete holds the newest complete one among the backups of a directory, however many incomplete ones came after it.
func (p Place) holdComplete(candidates []retention.Snapshot) {
	for _, r := range slices.Backward(p.Trees.Backups) {
		i := slices.IndexFunc(candidates, func(s retention.Snapshot) bool { return s.Name == r.Name })
		if i >= 0 && r.Complete() {
			candidates[i].Holds = append(candidates[i].Holds, "the newest complete one")
			return
		}
	}
}
