package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// world is a source with snapshots, and a store of streams, in memory.
type world struct {
	mayLockLess bool // the policy was changed, so that what is locked may be needed for longer
	*rand.Rand
	t          testing.TB
	now        time.Time
	serial     uint64
	source     btrfs.Subvolume
	snapshots  []btrfs.Subvolume
	backups    []btrfs.Subvolume
	chains     *Chains
	keep       retention.Policy
	keepSource retention.Policy
	pins       []string
	until      map[string]time.Time // by backup, when it was sent
	lossy      bool                 // backups and snapshots are deleted by hand

	// What was seen:
	complete, sent, most, longest int
	twoRoots                      bool
	extra                         int           // backups beyond the wanted ones, at most
	idle                          time.Duration // a lock lasted when a backup was to be deleted, at most
	idleOf                        string
}

func newWorld(t testing.TB, start time.Time, keep, keepSource string) *world {
	w := &world{t: t, now: start, chains: &Chains{On: make(map[string]string), MaxParentAge: 400 * 24 * time.Hour},
		Rand: rand.New(rand.NewPCG(1, 1)), source: btrfs.Subvolume{ID: 256, Name: "home", UUID: btrfs.UUID{9}, CreatedIn: 1}}
	w.keep, w.keepSource, w.until = policyOf(t, keep), policyOf(t, keepSource), make(map[string]time.Time)
	return w
}

// policyOf reads a policy; "" keeps all.
func policyOf(t testing.TB, text string) (p retention.Policy) {
	t.Helper()
	if text != "" {
		var err error
		if p, err = retention.Parse(text); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func uuidOf(kind byte, n uint64) btrfs.UUID {
	return btrfs.UUID{kind, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

func (w *world) planner() Planner {
	p := Planner{
		History: true, Source: w.source, Transfer: true, Incremental: true, Now: w.now, Keep: w.keep, Chains: w.chains.Clone(),
		Snapshots: Side{Listing: btrfs.Listing{InDirectory: w.snapshots, All: append(slices.Clone(w.snapshots), w.source), Top: btrfs.UUID{5}}},
		Backups:   Side{Listing: btrfs.Listing{InDirectory: w.backups, All: w.backups}},
	}
	p.Snapshots.Record.Origins = make(map[btrfs.UUID]btrfs.UUID)
	for _, b := range w.backups {
		p.Snapshots.Record.Origins[b.ReceivedUUID] = w.source.UUID
	}
	return p
}

// take takes a snapshot, unless there is one of that second.
func (w *world) take() {
	name := Naming{}.Name(w.now)
	if slices.Contains(NamesOf(w.snapshots), name) || slices.Contains(NamesOf(w.backups), name) {
		return
	}
	w.serial++
	w.snapshots = append(w.snapshots, btrfs.Subvolume{ID: 256 + w.serial, Name: name, UUID: uuidOf(1, w.serial), ParentUUID: w.source.UUID,
		ReadOnly: true, CreatedIn: 10 + w.serial, ChangedIn: 10 + w.serial})
}

// run sends and prunes as the engine does.
func (w *world) run() {
	w.take()
	p := w.planner()
	made := p.Plan()
	sent := make(map[string]bool)
	for _, t := range made.Transfers {
		// A parent that was lost and is sent again makes others whole that were planned as lost.
		if bases := p.Bases(t.Snapshot); !w.lossy && t.ParentName() != strings.Join(NamesOf(bases[:min(1, len(bases))]), "") {
			w.t.Fatalf("%s: %s builds on %q by the plan, and on %q", w.now, t.Snapshot.Name, t.ParentName(), NamesOf(bases))
		}
		if t.Parent == nil {
			w.complete++
			w.checkComplete(p, t.Snapshot)
		}
		w.add(&p, t)
		w.until[t.Snapshot.Name] = t.Role.Until
		if p.Chains.Until != nil {
			p.Chains.Until[t.Snapshot.Name] = t.Role.Until
		}
		sent[t.Snapshot.Name] = true
		w.sent++
	}
	w.pins, _ = p.Settle(made, sent)
	w.backups, w.chains = p.Backups.InDirectory, p.Chains
	w.prune()
	w.check()
	w.pruneSource()
}

// add notes a backup as the engine does.
func (w *world) add(p *Planner, t Transfer) {
	w.serial++
	b := btrfs.Subvolume{ID: 256 + w.serial, Name: t.Snapshot.Name, UUID: uuidOf(2, w.serial), ReceivedUUID: t.Snapshot.UUID, ReadOnly: true,
		SentIn: t.Snapshot.ChangedIn, CreatedIn: w.serial, ReceivedIn: w.serial, ChangedIn: w.serial}
	for _, there := range p.Backups.InDirectory {
		if t.Parent != nil && there.ReceivedUUID == t.Parent.UUID {
			b.ParentUUID = there.UUID
		}
	}
	if t.Parent != nil && b.ParentUUID.IsZero() {
		w.t.Fatalf("%s: builds on %s, which is not there", t.Snapshot.Name, t.Parent.Name)
	}
	p.Chains.Add(b, p.Backups.InDirectory)
	p.Backups.InDirectory = append(slices.Clone(p.Backups.InDirectory), b)
	p.Backups.All = p.Backups.InDirectory
}

func (w *world) prune() {
	newest := ""
	for _, b := range w.backups {
		if at, _ := (Naming{}).Time(b.Name); !at.After(w.now) && w.chains.lost(b.Name) == "" {
			newest = max(newest, b.Name)
		}
	}
	gone := w.planner().Plan().Delete
	if slices.Contains(gone, newest) {
		w.t.Fatalf("%s: the newest, %s, goes", w.now, newest)
	}
	w.drop(gone)
	if again := w.planner().Plan(); len(again.Delete) > 0 || len(again.Transfers) > 0 {
		w.t.Fatalf("%s: a second run deletes %q and sends %d", w.now, again.Delete, len(again.Transfers))
	}
}

// drop deletes backups, whoever wants that.
func (w *world) drop(names []string) {
	w.backups = slices.DeleteFunc(slices.Clone(w.backups), func(b btrfs.Subvolume) bool { return slices.Contains(names, b.Name) })
	w.chains = w.chains.Clone()
	maps.DeleteFunc(w.chains.On, func(name, _ string) bool { return slices.Contains(names, name) })
}

func (w *world) pruneSource() {
	var candidates []retention.Snapshot
	for _, s := range w.snapshots {
		c, _ := Naming{}.Snapshot(s.Name)
		if slices.Contains(w.pins, s.Name) {
			c.Holds = []string{"a parent"}
		}
		candidates = append(candidates, c)
	}
	kept := keptOf(retention.Decide(w.keepSource, w.now, candidates))
	w.snapshots = slices.DeleteFunc(slices.Clone(w.snapshots), func(s btrfs.Subvolume) bool { return !kept[s.Name] })
}

// checkComplete fails if there is anything that a version without a parent could have built on.
func (w *world) checkComplete(p Planner, s btrfs.Subvolume) {
	at, _ := Naming{}.Time(s.Name)
	year := func(t time.Time) retention.Period {
		return w.keep.PeriodOf(retention.Year, retention.Snapshot{Time: t}, time.Local)
	}
	for _, other := range w.snapshots {
		t, _ := Naming{}.Time(other.Name)
		paired := slices.ContainsFunc(p.Backups.InDirectory, func(b btrfs.Subvolume) bool { return b.ReceivedUUID == other.UUID })
		line, _ := p.Chains.Line(other.Name)
		if until, locked := w.chains.Until[other.Name]; locked && w.mayLockLess && until.Before(w.keep.Until(at, Levels(w.keep), 0)) {
			continue
		}
		if paired && t.Before(at) && year(t) == year(at) && at.Sub(t) <= w.chains.MaxParentAge && len(line) > 0 && len(line) < MostSteps(w.keep) {
			w.t.Fatalf("%s: %s is complete, though %s is at both sides", w.now, s.Name, other.Name)
		}
	}
}

// check fails if the store breaks a promise after a run.
func (w *world) check() {
	levels := Levels(w.keep)
	var all []retention.Snapshot
	roots, steps := 0, w.chains.Steps()
	for _, b := range w.backups {
		s, _ := Naming{}.Snapshot(b.Name)
		all = append(all, s)
		line, lost := w.chains.Line(b.Name)
		switch {
		case lost != "" && !w.lossy:
			w.t.Fatalf("%s: %s cannot be restored: %s is missing", w.now, b.Name, lost)
		case len(line) != steps[b.Name]:
			w.t.Fatalf("%s: %d steps to %s, or %d", w.now, len(line), b.Name, steps[b.Name])
		case len(line) > MostSteps(w.keep):
			w.t.Fatalf("%s: %d steps to %s", w.now, len(line), b.Name)
		case len(line) == 1:
			roots++
		}
		w.longest = max(w.longest, len(line))
	}
	if w.twoRoots = w.twoRoots || roots > 1; w.twoRoots && roots < 2 && !w.lossy {
		w.t.Fatalf("%s: %d complete backup is left", w.now, roots)
	}
	for _, s := range slices.Backward(w.snapshots) {
		if _, there := w.chains.On[s.Name]; there && !w.lossy {
			if !slices.Contains(w.pins, s.Name) {
				w.t.Fatalf("%s: the source need not hold the newest common, %s", w.now, s.Name)
			}
			break
		}
	}
	if len(w.pins) > len(levels)+1 {
		w.t.Fatalf("%s: the source must hold %q", w.now, w.pins)
	}
	for _, pin := range w.pins[min(1, len(w.pins)):] {
		if at, _ := (Naming{}).Time(pin); w.now.Sub(at) > w.chains.MaxParentAge {
			w.t.Fatalf("%s: the source must hold %s", w.now, pin)
		}
	}
	whole, _ := w.chains.Apart(all)
	wanted := 0
	for _, v := range retention.Decide(w.keep, w.now, whole) {
		if v.Keep {
			wanted++
		}
	}
	w.most = max(w.most, len(whole))
	w.extra = max(w.extra, len(whole)-wanted)
}

func (w *world) String() string {
	return fmt.Sprintf("%d sent, %d complete, at most %d there, %d more than wanted, %d steps", w.sent, w.complete, w.most, w.extra, w.longest)
}
