package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// oddNames only resemble names of the series.
var oddNames = []string{"x20260101-000000", "20260101-000000x", "2026011-00000", "20261301-000000", "backup", ".20260101-000000", ".x.incoming", "20260101-000000.incoming"}

// randomState makes the two folders of a planner, as chance, other programs and wrong clocks may leave them.
type randomState struct {
	*rand.Rand
	used map[string]bool // names in the folder that is being filled
}

func (r *randomState) oneIn(n int) bool { return r.IntN(n) == 0 }

// name is mostly the one of the day that follows the order of creation, but the clock may have been wrong.
func (r *randomState) name(n uint64) string {
	name := day(n)
	switch {
	case r.oneIn(8):
		name = oddNames[r.IntN(len(oddNames))]
	case r.oneIn(8):
		name = day(1 + r.Uint64N(20))
	}
	for r.used[name] {
		name = day(1 + r.Uint64N(30))
	}
	r.used[name] = true
	return name
}

func (r *randomState) snapshots() subvolumes {
	r.used = make(map[string]bool)
	var all subvolumes
	for n := range r.Uint64N(9) {
		s := snap(n+1, named(r.name(n+1)))
		switch {
		case r.oneIn(10):
			writable(&s)
		case r.oneIn(10):
			s.ParentUUID = uuid(900) // of another subvolume
		case r.oneIn(10):
			receivedAs(2000 + r.Uint64N(5))(&s) // restored from a backup
		case r.oneIn(10):
			inherits(2000 + r.Uint64N(5))(&s)
		case r.oneIn(10):
			altered(&s)
		}
		all = append(all, s)
	}
	return all
}

func (r *randomState) backups(snapshots subvolumes) subvolumes {
	r.used = make(map[string]bool)
	var all subvolumes
	for n := range r.Uint64N(12) {
		of := foreign(n + 1)
		if len(snapshots) > 0 && !r.oneIn(4) {
			of = snapshots[r.IntN(len(snapshots))]
		}
		b := backup(of)
		b.ID, b.UUID, b.CreatedIn, b.ReceivedIn, b.ChangedIn = 500+n, uuid(3000+n), 50+n, 50+n, 50+n
		b.Name = of.Name
		if r.used[b.Name] || r.oneIn(6) {
			b.Name = r.name(n + 1)
		}
		r.used[b.Name] = true
		if len(all) > 0 && !r.oneIn(3) {
			b.ParentUUID = all[r.IntN(len(all))].UUID
		}
		r.spoil(&b)
		all = append(all, b)
	}
	return all
}

func (r *randomState) spoil(b *btrfs.Subvolume) {
	switch {
	case r.oneIn(10):
		writable(b)
	case r.oneIn(10):
		neverReceived(b)
	case r.oneIn(10):
		hidden(b)
	case r.oneIn(10):
		altered(b)
	case r.oneIn(10):
		b.ReceivedIn = 1 // a snapshot of what was received
	}
}

func (r *randomState) planner(t *testing.T) plan.Planner {
	snapshots := r.snapshots()
	p := newPlanner(snapshots, r.backups(snapshots), keep(r.IntN(5)))
	p.Transfer, p.Incremental, p.Clean = !r.oneIn(4), !r.oneIn(4), r.oneIn(4)
	p.Snapshots.Record.Origins = make(map[btrfs.UUID]btrfs.UUID)
	held := "{}"
	for _, b := range p.Backups.InDirectory {
		if r.oneIn(6) {
			p.Snapshots.Record.Origins[b.ReceivedUUID] = []btrfs.UUID{home.UUID, uuid(901)}[r.IntN(2)]
		}
		if r.oneIn(10) {
			held = fmt.Sprintf(`{%q: {"parent_locks": ["/further"]}}`, b.Name)
		}
	}
	p.Backups.Ledger = ledger(t, held)
	return p
}

// violation tells what a plan does that no plan may do.
func violation(p plan.Planner, made Plan) string {
	for _, check := range []func(plan.Planner, Plan) string{
		deletesOnlyOwnBackups, cleansOnlyLeftovers, keepsTheNewestCommon, keepsSomething, sendsOnlyWhatIsKept, parentsAreAtBothSides,
	} {
		if v := check(p, made); v != "" {
			return v
		}
	}
	return ""
}

func backupNamed(p plan.Planner, name string) (btrfs.Subvolume, bool) {
	i := slices.IndexFunc(p.Backups.InDirectory, func(b btrfs.Subvolume) bool { return b.Name == name })
	if i < 0 {
		return btrfs.Subvolume{}, false
	}
	return p.Backups.InDirectory[i], true
}

func deletesOnlyOwnBackups(p plan.Planner, made Plan) string {
	for _, name := range made.Delete {
		b, ok := backupNamed(p, name)
		origin := p.Snapshots.Record.Origins[b.ReceivedUUID]
		switch {
		case !ok || !p.Backups.Naming.Ours(name):
			return fmt.Sprintf("deletes %q, which is not a backup of the series", name)
		case !b.ReadOnly || !b.Received() || b.AlteredIn != 0:
			return fmt.Sprintf("deletes %q, which is not as it was completely received", name)
		case !origin.IsZero() && origin != home.UUID:
			return fmt.Sprintf("deletes %q of another source", name)
		case len(p.Backups.Ledger.Holds(name)) > 0:
			return fmt.Sprintf("deletes %q, which is held", name)
		case p.Keep == retention.Policy{}:
			return fmt.Sprintf("deletes %q without a policy", name)
		}
	}
	return ""
}

func cleansOnlyLeftovers(p plan.Planner, made Plan) string {
	for _, name := range made.Leftovers {
		b, _ := backupNamed(p, name)
		final, incoming := btrfs.IncomingOf(name)
		if !(incoming && p.Backups.Naming.Ours(final)) && !(p.Clean && p.Backups.Naming.Ours(name) && !b.ReadOnly) {
			return fmt.Sprintf("cleans %q, which is not unfinished", name)
		}
	}
	return ""
}

// copiesOf gives the names of the copies of a snapshot at the destination.
func backupsOf(p plan.Planner, s btrfs.Subvolume) []string {
	var names []string
	for _, b := range p.Backups.InDirectory {
		number := s.CreatedIn <= b.SentIn && b.SentIn <= s.ChangedIn && b.SentIn >= s.AlteredIn
		doubtful := s.AlteredIn != 0 || !s.ReceivedUUID.IsZero() && !s.Received()
		if b.ReadOnly && b.AlteredIn == 0 && b.Received() && !btrfs.IsIncoming(b.Name) && b.ReceivedUUID == s.Identity() && (number || !doubtful) {
			names = append(names, b.Name)
		}
	}
	return names
}

// keepsTheNewestCommon looks at the state after the plan was carried out.
func keepsTheNewestCommon(p plan.Planner, made Plan) string {
	common := slices.DeleteFunc(slices.Clone(p.Snapshots.InDirectory), func(s btrfs.Subvolume) bool {
		sent := slices.ContainsFunc(made.Transfers, func(t Transfer) bool { return t.Snapshot.ID == s.ID })
		return !s.ReadOnly || !p.Snapshots.Naming.Ours(s.Name) || !sent && len(backupsOf(p, s)) == 0
	})
	if len(common) == 0 {
		return ""
	}
	newest := slices.MaxFunc(common, kin.ByAge)
	copies := backupsOf(p, newest)
	left := slices.DeleteFunc(slices.Clone(copies), func(name string) bool { return slices.Contains(made.Delete, name) })
	if len(copies) > 0 && len(left) == 0 {
		return fmt.Sprintf("deletes %q, all copies of the newest common snapshot %q", copies, newest.Name)
	}
	return ""
}

func keepsSomething(_ plan.Planner, made Plan) string {
	kept := slices.ContainsFunc(made.Verdicts, func(v retention.Verdict) bool { return v.Keep })
	if len(made.Delete) > 0 && !kept {
		return "keeps nothing"
	}
	return ""
}

func sendsOnlyWhatIsKept(p plan.Planner, made Plan) string {
	for _, t := range made.Transfers {
		kept := slices.ContainsFunc(made.Verdicts, func(v retention.Verdict) bool { return v.Name == t.Snapshot.Name && v.Keep })
		if !kept || !p.Transfer || !t.Snapshot.ReadOnly || !p.Snapshots.Naming.Ours(t.Snapshot.Name) || len(backupsOf(p, t.Snapshot)) > 0 {
			return fmt.Sprintf("sends %q", t.Snapshot.Name)
		}
	}
	return ""
}

func parentsAreAtBothSides(p plan.Planner, made Plan) string {
	sent := make(map[uint64]bool)
	for _, t := range made.Transfers {
		if t.Parent != nil {
			here := slices.ContainsFunc(p.Snapshots.InDirectory, func(s btrfs.Subvolume) bool { return s == *t.Parent && s.ReadOnly })
			if there := sent[t.Parent.ID] || len(backupsOf(p, *t.Parent)) > 0; !p.Incremental || !here || !there {
				return fmt.Sprintf("sends %q as an increment to %q", t.Snapshot.Name, t.Parent.Name)
			}
		}
		sent[t.Snapshot.ID] = true
	}
	return ""
}

func TestNoPlanBreaksAPromise(t *testing.T) { plansKeepPromises(t, 4000) }

func TestNoneOfManyPlansBreaksAPromise(t *testing.T) {
	btrfstest.OnlyInAll(t)
	plansKeepPromises(t, 100_000)
}

func plansKeepPromises(t *testing.T, plans int) {
	var sent, increments, deleted, cleaned int
	for seed := range uint64(plans) {
		r := &randomState{Rand: rand.New(rand.NewPCG(seed, 0))}
		p := r.planner(t)
		made := p.Plan()
		if v := violation(p, made); v != "" {
			t.Fatalf("seed %d: it %s\nplan: %s\nkeep %d, transfer %t, snapshots:\n%v\nbackups:\n%v\nverdicts: %v",
				seed, v, actions(made), p.Keep.Last, p.Transfer, p.Snapshots.InDirectory, p.Backups.InDirectory, made.Verdicts)
		}
		sent, deleted, cleaned = sent+len(made.Transfers), deleted+len(made.Delete), cleaned+len(made.Leftovers)
		for _, transfer := range made.Transfers {
			if transfer.Parent != nil {
				increments++
			}
		}
	}
	if min(sent, increments, deleted, cleaned) < plans/4 {
		t.Errorf("too tame: %d sent, %d as increments, %d deleted, %d cleaned", sent, increments, deleted, cleaned)
	}
}

func BenchmarkPlan(b *testing.B) {
	const count = 2000
	var snapshots, backups subvolumes
	for n := range uint64(count) {
		s := snap(n+1, named(fmt.Sprintf("2026%02d%02d-%06d", 1+n/28/12%12, 1+n/12%28, n%12*10000)))
		var parent btrfs.Subvolume
		if n > 0 {
			parent = backups[n-1]
		}
		snapshots, backups = append(snapshots, s), append(backups, backup(s, childOf(parent)))
	}
	for _, present := range []int{0, count / 2, count} {
		b.Run(fmt.Sprintf("%d of %d present", present, count), func(b *testing.B) {
			p := newPlanner(snapshots, backups[:present], keep(count/4))
			for b.Loop() {
				p.Plan()
			}
		})
	}
}
