package plan

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Where backups are chains of streams, these follow the calendar: the first of a year is complete, the first of a month builds on the
// first of its year, and so on down to the shortest period; there each one builds on the one before. So what a kept backup builds
// on is what a policy by the calendar keeps anyway, and the leaves of a period expire together.

// Levels gives the units of the calendar by which backups build on each other under a policy, the longest first: the shortest one of
// the policy, and all above it. One that does not go by the calendar counts as one of days.
func Levels(policy retention.Policy) (levels []retention.Unit) {
	finest := retention.Day
	for u := retention.Year; u >= retention.Hour; u-- {
		if policy.Of[u] != 0 {
			finest = u
		}
	}
	for u := retention.Year; u >= finest; u-- {
		if u != retention.Quarter || policy.Of[u] != 0 {
			levels = append(levels, u)
		}
	}
	return levels
}

// MostSteps gives the number of streams that a restore takes at most: one for each level, and those of one period of leaves.
func MostSteps(policy retention.Policy) int {
	levels := Levels(policy)
	leaves := 1
	switch finest := levels[len(levels)-1]; finest {
	case retention.Hour:
		leaves = 25 // when the clock is set back
	case retention.Day:
		leaves = 7
	case retention.Week:
		leaves = 6
	case retention.Month:
		if leaves = 12; slices.Contains(levels, retention.Quarter) {
			leaves = 3
		}
	case retention.Quarter:
		leaves = 4
	}
	return len(levels) + leaves
}

// A leaf is a backup, or a version to be one, in its place in the calendar.
type leaf struct {
	retention.Snapshot
	periods  periods
	steps    int
	snapshot *btrfs.Subvolume // of which it is a copy; nil: none that can be a parent
}

// periods are those of the levels in which a leaf lies, the longest first; of the first few levels they stand for a bucket.
type periods [retention.Year + 1]retention.Period

// of gives the bucket of so many levels.
func (p periods) of(levels int) (bucket periods) {
	copy(bucket[:levels], p[:levels])
	return bucket
}

// before orders by time.
func (l *leaf) before(other *leaf) int {
	return cmp.Or(l.Time.Compare(other.Time), cmp.Compare(l.Number, other.Number), cmp.Compare(l.Name, other.Name))
}

// tree are bases by the calendar.
type tree struct {
	basesByUUID
	naming Naming
	policy retention.Policy
	zone   *time.Location
	maxAge time.Duration
	levels []retention.Unit
	most   int                  // steps
	there  map[periods][]*leaf  // in each bucket of whatever level, in the order of time
	steps  map[uint64]int       // of snapshots, by ID
	until  map[string]time.Time // see Chains.untilOf; none of what this run sends, and where nothing is locked
	now    time.Time
	every  time.Duration // there is a new version
}

// newTree gives the bases among the source's own backups and those of snapshots that can be parents.
func newTree(p Planner, b basesByUUID, own []string, snapshots map[string]*btrfs.Subvolume) *tree {
	t := &tree{basesByUUID: b, naming: p.Backups.Naming, policy: p.Keep, zone: p.Now.Location(), maxAge: p.Chains.MaxParentAge,
		levels: Levels(p.Keep), most: MostSteps(p.Keep), there: make(map[periods][]*leaf), steps: make(map[uint64]int),
		until: make(map[string]time.Time), now: p.Now, every: retention.Interval(p.Now, p.times())}
	isOwn := setOf(own)
	steps := p.Chains.Steps()
	for _, name := range slices.Sorted(maps.Keys(steps)) { // mostly the order of time
		n := steps[name]
		if snapshot := snapshots[name]; snapshot != nil || isOwn[name] {
			t.add(name, n, snapshot)
			if p.Chains.Until != nil {
				t.until[name] = p.Chains.untilOf(name)
			}
		}
	}
	return t
}

// leafOf gives the place of a name.
func (t *tree) leafOf(name string) (*leaf, bool) {
	s, ok := t.naming.Snapshot(name)
	return t.leafAt(s), ok
}

func (t *tree) leafAt(s retention.Snapshot) *leaf {
	l := &leaf{Snapshot: s}
	for i, u := range t.levels {
		l.periods[i] = t.policy.PeriodOf(u, s, t.zone)
	}
	return l
}

func (t *tree) add(name string, steps int, snapshot *btrfs.Subvolume) {
	l, ok := t.leafOf(name)
	if !ok {
		return
	}
	l.steps, l.snapshot = steps, snapshot
	if snapshot != nil {
		t.steps[snapshot.ID] = steps
	}
	for i := range t.levels {
		bucket := l.periods.of(i + 1)
		all := t.there[bucket]
		at, _ := slices.BinarySearchFunc(all, l, (*leaf).before)
		t.there[bucket] = slices.Insert(all, at, l)
	}
}

func (t *tree) sent(s, parent *btrfs.Subvolume) {
	t.basesByUUID.sent(s, parent)
	steps := 1
	if parent != nil {
		steps += t.steps[parent.ID]
	}
	t.add(s.Name, steps, s)
}

// isUsable tells that a version can build on what is there, which must be locked for as long as the version itself will be needed.
func (t *tree) isUsable(l, of *leaf, needed time.Time) bool {
	if until, locked := t.until[l.Name]; locked && until.Before(needed) {
		return false
	}
	return l.snapshot != nil && l.steps < t.most && (t.maxAge == 0 || of.Time.Sub(l.Time) <= t.maxAge) && t.isSingle(l.snapshot) && t.AreKin(of.snapshot, l.snapshot)
}

// A place tells what there is for a version to build on.
type place struct {
	first  []*leaf // of each level, the oldest of the period that can be built on; nil: none
	oldest []*leaf // whether or not it can be built on
	last   *leaf   // the newest that is the first of its shortest period, in the same one of the next longer; nil: none
}

// placeOf looks at those that are older than the version.
func (t *tree) placeOf(of *leaf) place {
	n := len(t.levels)
	p := place{first: make([]*leaf, n), oldest: make([]*leaf, n)}
	for i := range n {
		if older := t.older(of, i+1); len(older) > 0 {
			p.oldest[i] = older[0]
		}
	}
	t.choose(&p, of, t.neededUntil(of, p.oldestOf(t.levels)))
	return p
}

// choose finds what can be built on by a version that is needed until a time.
func (t *tree) choose(p *place, of *leaf, needed time.Time) {
	n := len(t.levels)
	for i := range n {
		p.first[i] = nil
		for _, l := range t.older(of, i+1) {
			if t.isUsable(l, of, needed) {
				p.first[i] = l
				break
			}
		}
	}
	if p.last = nil; n == 1 {
		return
	}
	for _, l := range slices.Backward(t.older(of, n-1)) {
		if t.there[l.periods][0] == l && t.isUsable(l, of, needed) {
			p.last = l
			return
		}
	}
}

// neededUntil tells until when the policy wants a version at least that is the oldest of its periods of some units, but no more than five years from now.
func (t *tree) neededUntil(of *leaf, oldestOf []retention.Unit) time.Time {
	if len(t.until) == 0 {
		return time.Time{}
	}
	until := t.policy.Until(of.Time.In(t.zone), oldestOf, 0)
	if far := t.now.AddDate(5, 0, 0); until.After(far) {
		return far
	}
	return until
}

// oldestOf gives the units of the levels in whose periods nothing is older.
func (p place) oldestOf(levels []retention.Unit) (units []retention.Unit) {
	for i, u := range levels {
		if p.oldest[i] == nil {
			units = append(units, u)
		}
	}
	return units
}

// older gives what is older than a version, in its bucket of so many levels.
func (t *tree) older(than *leaf, levels int) []*leaf {
	all := t.there[than.periods.of(levels)]
	at, _ := slices.BinarySearchFunc(all, than, (*leaf).before)
	return all[:at]
}

// level gives the longest period of which there is nothing yet to build on; as many as there are levels: none.
func (p place) level() int {
	if i := slices.Index(p.first, nil); i >= 0 {
		return i
	}
	return len(p.first)
}

// bases gives those that the version can build on, the best first.
func (p place) bases() (all []*leaf) {
	level := p.level()
	if level > 0 && level == len(p.first)-1 && p.last != nil {
		all = append(all, p.last)
	}
	for i := level - 1; i >= 0; i-- {
		if !slices.Contains(all, p.first[i]) {
			all = append(all, p.first[i])
		}
	}
	return all
}

func (t *tree) of(s *btrfs.Subvolume) iter.Seq[*btrfs.Subvolume] {
	return func(yield func(*btrfs.Subvolume) bool) {
		l, ok := t.leafOf(s.Name)
		if l.snapshot = s; !ok {
			return
		}
		for _, base := range t.placeOf(l).bases() {
			if !yield(base.snapshot) {
				return
			}
		}
	}
}

// why tells in words why a version builds on a base, or on none.
func (t *tree) why(s, base *btrfs.Subvolume) string {
	l, ok := t.leafOf(s.Name)
	if l.snapshot = s; !ok {
		return ""
	}
	p := t.placeOf(l)
	level, on := p.level(), t.name(p, base)
	what, since := "one more of its "+t.levels[len(t.levels)-1].String(), ""
	if level < len(t.levels) {
		unit := t.levels[level]
		what = fmt.Sprintf("the first of its %s", unit)
		if p.oldest[level] != nil {
			since = fmt.Sprintf("nothing of its %s can be built on", unit)
		}
	}
	switch {
	case base == nil && since != "":
		return since
	case base == nil:
		return what
	case since != "":
		return "on " + on + ", since " + since
	}
	return what + ", on " + on
}

// name tells in words what a base is.
func (t *tree) name(p place, base *btrfs.Subvolume) string {
	level := p.level()
	if p.last != nil && level == len(t.levels)-1 && base == p.last.snapshot {
		return "the one before"
	}
	for i, unit := range slices.Backward(t.levels[:level]) {
		switch {
		case p.first[i].snapshot != base:
		case p.first[i] != p.oldest[i]:
			return fmt.Sprintf("the oldest of its %s that the source still has", unit)
		default:
			return fmt.Sprintf("the first of its %s", unit)
		}
	}
	return "another one"
}

// Parents gives the names of the snapshots that the source must keep for versions to come, when the transfers are done: the newest one
// that the destination holds, and the first of each present period, as far as it can be built on.
func (p Planner) Parents(done []Transfer) (names []string) {
	r, ok := p.relation().(*byUUID)
	if !ok || p.Chains == nil {
		return nil
	}
	bases := r.bases()
	var newest *btrfs.Subvolume
	for i := range r.series {
		if len(r.holdsWhole(r.series[i])) > 0 {
			newest = &r.series[i]
		}
	}
	for i := range done {
		s := &done[i].Snapshot
		if bases.sent(s, done[i].Parent); newest == nil || kin.ByAge(*s, *newest) > 0 {
			newest = s
		}
	}
	add := func(s *btrfs.Subvolume) {
		if s != nil && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	add(newest)
	t := bases.(*tree)
	next := t.leafAt(retention.Snapshot{Time: p.Now, Number: math.MaxInt})
	next.snapshot = new(Pending("", p.Source.UUID))
	place := t.placeOf(next)
	if place.last != nil && place.level() == len(t.levels)-1 {
		add(place.last.snapshot)
	}
	for i := len(t.levels); i >= 0; i-- { // what comes may be the first of any period, and needed for as long as that
		if i < len(t.levels) {
			t.choose(&place, next, t.neededUntil(next, t.levels[i:]))
		}
		for _, l := range place.first[:min(i+1, len(t.levels))] {
			if l != nil {
				add(l.snapshot)
			}
		}
		if len(t.until) == 0 {
			break // it makes no difference
		}
	}
	return names
}
