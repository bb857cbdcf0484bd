package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// uuid makes a UUID out of a number.
func uuid(n uint64) btrfs.UUID { return btrfs.UUID{1, byte(n >> 16), byte(n >> 8), byte(n)} }

// home is the source of the fixtures.
var home = btrfs.Subvolume{ID: 256, Name: "home", UUID: uuid(0), CreatedIn: 1}

// day is the name of a snapshot taken on that day.
func day(n uint64) string { return fmt.Sprintf("202601%02d-000000", n) }

type change func(*btrfs.Subvolume)

func named(name string) change         { return func(s *btrfs.Subvolume) { s.Name = name } }
func hidden(s *btrfs.Subvolume)        { s.Name = btrfs.Incoming(s.Name) }
func writable(s *btrfs.Subvolume)      { s.ReadOnly = false }
func neverReceived(s *btrfs.Subvolume) { s.ReceivedUUID = btrfs.UUID{} }
func receivedAs(n uint64) change {
	return func(s *btrfs.Subvolume) { s.ReceivedUUID, s.ReceivedIn, s.SentIn = uuid(n), s.CreatedIn, 5 }
}
func inherits(n uint64) change {
	return func(s *btrfs.Subvolume) { s.ReceivedUUID, s.ReceivedIn, s.SentIn = uuid(n), 5, 5 }
}
func altered(s *btrfs.Subvolume) {
	s.ChangedIn += 200
	s.AlteredIn = s.ChangedIn - 50
}
func sentIn(n uint64) change { return func(s *btrfs.Subvolume) { s.SentIn = n } }
func childOf(parent btrfs.Subvolume) change {
	return func(s *btrfs.Subvolume) { s.ParentUUID = parent.UUID }
}

func changed(s btrfs.Subvolume, changes []change) btrfs.Subvolume {
	for _, c := range changes {
		c(&s)
	}
	return s
}

// snap is the nth snapshot of home, taken on the nth day.
func snap(n uint64, changes ...change) btrfs.Subvolume {
	return changed(btrfs.Subvolume{
		ID: 256 + n, Name: day(n), UUID: uuid(n), ParentUUID: home.UUID, ReadOnly: true, CreatedIn: 10 + n, ChangedIn: 10 + n,
	}, changes)
}

const copied = 1000 // is added to the numbers of snapshots

// backup is a complete copy of s.
func backup(s btrfs.Subvolume, changes ...change) btrfs.Subvolume {
	n := s.ID - 256
	return changed(btrfs.Subvolume{
		ID: 256 + n, Name: s.Name, UUID: uuid(copied + n), ReceivedUUID: s.Identity(), ReadOnly: true, SentIn: s.ChangedIn,
		CreatedIn: 10 + n, ReceivedIn: 10 + n, ChangedIn: 10 + n,
	}, changes)
}

// foreign is a backup of the nth day whose snapshot nobody knows.
func foreign(n uint64, changes ...change) btrfs.Subvolume {
	return backup(btrfs.Subvolume{ID: 2256 + n, Name: day(n), UUID: uuid(2000 + n)}, changes...)
}

type subvolumes = []btrfs.Subvolume

func inFolder(naming Naming, s subvolumes) plan.Side {
	return plan.Side{Listing: btrfs.Listing{InDirectory: s, All: append(slices.Clone(s), home), Top: uuid(9999)}, Naming: naming}
}

func newPlanner(snapshots, backups subvolumes, changes ...func(*plan.Planner)) plan.Planner {
	p := plan.Planner{
		History: true, Source: home, Snapshots: inFolder(Naming{}, snapshots), Backups: inFolder(Naming{}, backups),
		Now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.Local), Transfer: true, Incremental: true,
	}
	for _, c := range changes {
		c(&p)
	}
	return p
}

func keep(n int) func(*plan.Planner) { return func(p *plan.Planner) { p.Keep.Last = n } }

// keeps is a destination that deletes by a policy of its own.
func keeps(policy string) func(*plan.Planner) {
	return func(p *plan.Planner) {
		var err error
		if p.Keeps, err = retention.Parse(policy); err != nil {
			panic(err)
		}
	}
}

// arrived is a backup that came so many days before the plan is made.
func arrived(days int) func(*btrfs.Subvolume) {
	return func(s *btrfs.Subvolume) { s.Created = newPlanner(nil, nil).Now.AddDate(0, 0, -days) }
}

// dated gives a subvolume the name of another day.
func dated(s btrfs.Subvolume, n uint64) btrfs.Subvolume {
	s.Name = day(n)
	return s
}

func noTransfer(p *plan.Planner)    { p.Transfer = false }
func noIncremental(p *plan.Planner) { p.Incremental = false }
func ofSeries(n Naming) func(*plan.Planner) {
	return func(p *plan.Planner) { p.Snapshots.Naming, p.Backups.Naming = n, n }
}

// recorded puts into the record that the backups are of a source.
func recorded(source btrfs.UUID, backups ...btrfs.Subvolume) func(*plan.Planner) {
	return func(p *plan.Planner) {
		p.Snapshots.Record.Origins = make(map[btrfs.UUID]btrfs.UUID)
		for _, b := range backups {
			p.Snapshots.Record.Origins[b.ReceivedUUID] = source
		}
	}
}

func ledger(t testing.TB, content string) *lock.Ledger {
	t.Helper()
	l, err := lock.ParseLedger([]byte(content), Naming{}.Ours)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// actions tells what a plan changes, with the names of days as their numbers.
func actions(p Plan) string {
	var all []string
	for _, name := range p.Leftovers {
		all = append(all, "clean "+name)
	}
	for _, t := range p.Transfers {
		all = append(all, sending(t))
	}
	for _, name := range p.Delete {
		all = append(all, "delete "+name)
	}
	for _, name := range p.InTheWay {
		all = append(all, "not "+name)
	}
	text := strings.Join(all, "; ")
	for n := range uint64(32) {
		text = strings.ReplaceAll(text, day(n), fmt.Sprint(n))
	}
	return text
}

func joined(s subvolumes) string { return strings.Join(plan.NamesOf(s), " ") }
