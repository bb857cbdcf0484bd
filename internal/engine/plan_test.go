package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

func TestPlan(t *testing.T) {
	s1, s2, s3, s4 := snap(1), snap(2), snap(3), snap(4)
	b1 := backup(s1)
	b2 := backup(s2, childOf(b1))
	b3 := backup(s3, childOf(b2))
	h1 := snap(1, childOf(btrfs.Subvolume{}))
	h3 := snap(3, childOf(snap(2)))
	manual := snap(1, named("before the upgrade"))
	elsewhere := snap(9, childOf(btrfs.Subvolume{UUID: uuid(900)}))
	tests := []struct {
		name      string
		snapshots subvolumes
		backups   subvolumes
		changes   []func(*plan.Planner)
		want      string
	}{
		{"nothing to do", subvolumes{s1}, subvolumes{b1}, nil, ""},
		{"fresh destination", subvolumes{s3, s1, s2}, nil, nil, "send 1; send 2 from 1; send 3 from 2"},
		{"fresh destination, policy limits what is sent", subvolumes{s1, s2, s3}, nil, []func(*plan.Planner){keep(2)}, "send 2; send 3 from 2"},
		{"complete copies, newest first", subvolumes{s1, s2, s3}, nil, []func(*plan.Planner){noIncremental}, "send 3; send 2; send 1"},
		{"complete copies, limited", subvolumes{s1, s2, s3}, subvolumes{b1}, []func(*plan.Planner){noIncremental, keep(2)}, "send 3; send 2; delete 1"},
		{"increments", subvolumes{s1, s2, s3, s4}, subvolumes{b1, b2}, nil, "send 3 from 2; send 4 from 3"},
		{"a gap", subvolumes{s1, s2, s3}, subvolumes{b1, b3}, nil, "send 2 from 1"},
		{"only a newer one is common", subvolumes{s1, s2}, subvolumes{backup(s2)}, nil, "send 1 from 2"},
		{"the parent has a name of its own", subvolumes{manual, s2}, subvolumes{backup(manual)}, nil, "send 2 from before the upgrade"},
		{"the parent has another name there", subvolumes{s1, s2}, subvolumes{backup(s1, named("renamed"))}, nil, "send 2 from 1"},
		{"no parent of another lineage", subvolumes{elsewhere, s2}, subvolumes{backup(elsewhere)}, nil, "send 2"},
		{"a copy of the parent that was altered", subvolumes{s1, s2}, subvolumes{b1, foreign(9, receivedAs(1), altered)}, nil, "send 2 from 1"},
		{"there is an older parent without one", subvolumes{s1, s2, s3}, subvolumes{b1, b2, foreign(9, receivedAs(2), altered)}, nil, "send 3 from 2"},
		{"a writable copy of the parent", subvolumes{s1, s2}, subvolumes{b1, foreign(9, receivedAs(1), writable)}, nil, "send 2 from 1"},
		{"a snapshot of a copy of the parent", subvolumes{s1, s2}, subvolumes{b1, foreign(9, inherits(1), childOf(b1))}, nil, "send 2 from 1"},
		{"a writable snapshot of a copy of the parent", subvolumes{s1, s2}, subvolumes{b1, foreign(9, inherits(1), childOf(b1), writable)}, nil, "send 2 from 1"},
		{"an altered snapshot of a copy of the parent", subvolumes{s1, s2}, subvolumes{b1, foreign(9, inherits(1), childOf(b1), altered)}, nil, "send 2 from 1"},
		{"a copy of the parent as it was before, received upon a good one", subvolumes{snap(1, altered), s2},
			subvolumes{backup(snap(1, altered)), foreign(9, receivedAs(1), sentIn(9), childOf(b1))}, nil, "send 2 from 1"},
		{"the parent inherits a received UUID and is there itself", subvolumes{snap(1, inherits(77)), snap(2, inherits(77))},
			subvolumes{snap(1, inherits(77), named("itself")), backup(snap(1, inherits(77)))}, nil, "send 2 from 1"},
		{"a snapshot of an altered copy", subvolumes{s1, s2}, subvolumes{b1, foreign(9, inherits(1), childOf(foreign(9)))}, nil, "send 2 from 1"},
		{"snapshots of a source that was itself received", subvolumes{snap(1, inherits(77)), snap(2, inherits(77)), s3}, nil, nil, "send 1; send 2 from 1; send 3"},
		{"an altered backup", subvolumes{s1, s2}, subvolumes{backup(s1, altered)}, []func(*plan.Planner){keep(1)}, "send 2"},
		{"an altered backup, and no newer version", subvolumes{s1}, subvolumes{backup(s1, altered)}, nil, "not 1"},
		{"an altered snapshot", subvolumes{snap(1, altered), s2}, subvolumes{b1}, []func(*plan.Planner){keep(2)}, "send 2; not 1"},
		{"one that was altered before it was sent", subvolumes{snap(1, altered), s2}, subvolumes{backup(snap(1, altered))}, nil, "send 2 from 1"},
		{"one that was altered since it was received", subvolumes{snap(1, receivedAs(77), altered), s2}, nil, nil, "send 2"},
		{"a writable snapshot is not sent", subvolumes{snap(1, writable), s2}, nil, nil, "send 2"},
		{"only names of the series are sent", subvolumes{snap(1, named("x"+day(1))), snap(2, named(day(2)+"x")), s3}, nil, nil, "send 3"},
		{"a series with a prefix", subvolumes{s1, snap(2, named("home"+day(2)))}, subvolumes{b1}, []func(*plan.Planner){ofSeries(Naming{Prefix: "home"})}, "send home2 from 1"},

		{"a history in which each was made from the one before, and one is gone", subvolumes{h1, h3}, subvolumes{backup(h1)},
			[]func(*plan.Planner){func(p *plan.Planner) { p.Source = h3 }}, "send 3 from 1"},
		{"the older part of such a history", subvolumes{h1, h3}, nil, []func(*plan.Planner){func(p *plan.Planner) { p.Source = h3 }}, "send 1; send 3 from 1"},

		{"what the destination itself would delete is not sent", subvolumes{s1, s2, s3}, nil, []func(*plan.Planner){keeps("last=2")}, "send 2; send 3 from 2"},
		{"what it has deleted is not sent again", subvolumes{s1, s2, s3}, subvolumes{b2, b3}, []func(*plan.Planner){keeps("last=2")}, ""},
		{"nor because of its date", subvolumes{dated(s1, 9), dated(s2, 8), dated(s3, 1)}, subvolumes{backup(dated(s2, 8))}, []func(*plan.Planner){keeps("last=2")}, "send 1 from 8"},
		{"of what would be of one day there, the first and the newest are sent", subvolumes{s1, s2, s3}, nil, []func(*plan.Planner){keeps("7d")}, "send 1; send 3 from 1"},
		{"the newest alone, if there is one of that day", subvolumes{s1, s2, s3}, subvolumes{backup(s1, arrived(0))}, []func(*plan.Planner){keeps("7d")}, "send 3 from 1"},
		{"whatever their dates", subvolumes{dated(s1, 9), s2, s3}, nil, []func(*plan.Planner){keeps("7d")}, "send 9; send 3 from 9"},
		{"beside one that arrived before", subvolumes{s1, s2, s3}, subvolumes{backup(s1, arrived(3))}, []func(*plan.Planner){keeps("7d")}, "send 2 from 1; send 3 from 2"},
		{"all, if it keeps them a while", subvolumes{s1, s2, s3}, subvolumes{backup(s1, arrived(0))}, []func(*plan.Planner){keeps("within=9h 7d")}, "send 2 from 1; send 3 from 2"},
		{"what it has let go is not new to it again", subvolumes{s1, s2, s3}, subvolumes{backup(s1, arrived(9)), backup(s3, arrived(3))}, []func(*plan.Planner){keeps("within=9h 7d")}, ""},
		{"what it will delete is left to it", subvolumes{s1, s2, s3}, subvolumes{b1, b2}, []func(*plan.Planner){keeps("last=2")}, "send 3 from 2"},
		{"policy", subvolumes{s1, s2, s3}, subvolumes{b1, b2, b3}, []func(*plan.Planner){keep(2)}, "delete 1"},
		{"policy, with one to come", subvolumes{s1, s2}, subvolumes{b1}, []func(*plan.Planner){keep(1)}, "send 2 from 1; delete 1"},
		{"no policy", subvolumes{s3}, subvolumes{b1, b2, b3}, nil, ""},
		{"the newest common one stays", subvolumes{s1}, subvolumes{b1, b2, b3}, []func(*plan.Planner){keep(1)}, "delete 2"},
		{"every copy of the newest common one stays", subvolumes{s1, s3}, subvolumes{b1, b3, backup(s3, named(day(2)))}, []func(*plan.Planner){keep(1)}, "delete 1"},
		{"without transfer the newest present one is common", subvolumes{s1, s2, s3}, subvolumes{b1, b2}, []func(*plan.Planner){noTransfer, keep(1)}, "delete 1"},
		{"without transfer, nothing common", subvolumes{s3}, subvolumes{b1, b2}, []func(*plan.Planner){noTransfer, keep(1)}, ""},

		{"hidden leftovers", subvolumes{s1}, subvolumes{backup(s1, hidden), foreign(2, hidden, writable, neverReceived)}, nil, "clean .1.incoming; clean .2.incoming; send 1"},
		{"a writable subvolume under a final name may be a user's", subvolumes{s1}, subvolumes{backup(s1, writable, neverReceived)}, nil, "not 1"},
		{"a partial backup, and a request to clean it", subvolumes{s1}, subvolumes{backup(s1, writable, neverReceived)},
			[]func(*plan.Planner){func(p *plan.Planner) { p.Clean = true }}, "clean 1; send 1"},
		{"a received one that was made writable stays", subvolumes{s3}, subvolumes{b3, foreign(2, writable)}, []func(*plan.Planner){keep(1)}, ""},
		{"a read-only subvolume that was never received", subvolumes{s3}, subvolumes{b3, foreign(2, neverReceived)}, []func(*plan.Planner){keep(1)}, ""},
		{"leftovers of others", subvolumes{s1}, subvolumes{b1, foreign(2, writable, named("x"+day(2))), foreign(3, named(".x"+day(3)+".incoming")), foreign(4, writable, named("."+day(4)))}, nil, ""},

		{"snapshots of another subvolume are not sent, and their backups stay", subvolumes{elsewhere, snap(8, childOf(btrfs.Subvolume{UUID: uuid(900)})), s1},
			subvolumes{backup(elsewhere), b1}, []func(*plan.Planner){keep(1)}, ""},
		{"received snapshots are sent", subvolumes{snap(1, receivedAs(77), childOf(snap(60))), s2}, nil, nil, "send 1; send 2"},
		{"a top level without UUID", subvolumes{snap(1, childOf(btrfs.Subvolume{})), snap(2, childOf(btrfs.Subvolume{}))}, nil,
			[]func(*plan.Planner){func(p *plan.Planner) { p.Source.UUID = btrfs.UUID{} }}, "send 1; send 2 from 1"},
		{"foreign backups stay and do not count", subvolumes{s3}, subvolumes{foreign(1), b2, b3, foreign(5)}, []func(*plan.Planner){keep(1)}, "delete 2"},
		{"a taken name is in the way", subvolumes{s2, s3}, subvolumes{foreign(2)}, nil, "send 3; not 2"},
		{"one that the policy would not keep is in nobody's way", subvolumes{s1, s2, s3}, subvolumes{foreign(1), b2}, []func(*plan.Planner){keep(2)}, "send 3 from 2"},
		{"so is what is no subvolume", subvolumes{s2}, nil, []func(*plan.Planner){func(p *plan.Planner) { p.Taken = []string{day(2)} }}, "not 2"},
		{"backups linked by their parents are ours", subvolumes{s3}, subvolumes{b1, b2, b3}, []func(*plan.Planner){keep(1)}, "delete 1; delete 2"},
		{"also by a parent that is gone", subvolumes{s3}, subvolumes{foreign(1, childOf(foreign(9))), b2, backup(s3, childOf(b1))}, []func(*plan.Planner){keep(1)}, "delete 2"},
		{"one of a snapshot that was altered since is ours", subvolumes{snap(1, altered), s3}, subvolumes{b1, backup(s3)}, []func(*plan.Planner){keep(1)}, "delete 1"},
		{"but not by a parent that is another source's", subvolumes{s3}, subvolumes{foreign(1), foreign(2, childOf(foreign(1))), b3},
			[]func(*plan.Planner){keep(1), recorded(uuid(99), foreign(1))}, ""},
		{"recorded backups are ours", subvolumes{s3}, subvolumes{foreign(1), foreign(2), b3}, []func(*plan.Planner){keep(1), recorded(home.UUID, foreign(1))}, "delete 1"},
		{"backups recorded as another source's are not", subvolumes{s3}, subvolumes{b1, b2, b3}, []func(*plan.Planner){keep(1), recorded(uuid(99), b1)}, "delete 2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := actions(newPlanner(test.snapshots, test.backups, test.changes...).Plan()); got != test.want {
				t.Errorf("plan: %s\nwant: %s", got, test.want)
			}
		})
	}
}

func TestPlanKeepsWhatTheDestinationsOwnLedgerHolds(t *testing.T) {
	s3 := snap(3)
	b1 := backup(snap(1))
	b2 := backup(snap(2), childOf(b1))
	p := newPlanner(subvolumes{s3}, subvolumes{b1, b2, backup(s3, childOf(b2))}, keep(1))
	p.Backups.Ledger = ledger(t, fmt.Sprintf(`{%q: {"parent_locks": ["/further"]}, %q: {"locks": ["/late"]}}`, day(1), day(2)))
	made := p.Plan()
	if got := actions(made); got != "" {
		t.Errorf("plan: %s", got)
	}
	told := fmt.Sprint(made.Verdicts)
	for _, reason := range []string{"newest common with /further", "not yet at /late"} {
		if !strings.Contains(told, reason) {
			t.Errorf("%q is not among the reasons: %s", reason, told)
		}
	}
}

func TestPlanKeepsWhatIsInUse(t *testing.T) {
	s2, s3 := snap(2), snap(3)
	b1 := backup(snap(1))
	p := newPlanner(subvolumes{s2, s3}, subvolumes{b1, backup(s2, childOf(b1)), backup(s3, childOf(b1))}, keep(1))
	p.Backups.InUse = map[string]string{day(1): "the default subvolume"}
	made := p.Plan()
	if got := fmt.Sprint(made.Delete, made.Verdicts); got != fmt.Sprintf("[%s] [keep %s: the default subvolume delete %s: older than the newest 1 "+
		"keep %s: newest common with the source, the newest]", day(2), day(1), day(2), day(3)) {
		t.Error(got)
	}
}

func TestPlanGivesAReasonForEveryBackup(t *testing.T) {
	s3, s4 := snap(3), snap(4)
	b1, b3 := backup(snap(1)), backup(s3, childOf(backup(snap(1))))
	other := foreign(5)
	p := newPlanner(subvolumes{s3, s4}, subvolumes{b1, b3, foreign(2), other, foreign(6, neverReceived), foreign(7, altered), foreign(8, inherits(1), altered)}, keep(1), recorded(uuid(99), other))
	want := map[string]string{
		day(1): "delete 20260101-000000: older than the newest 1",
		day(2): "keep 20260102-000000: not known to come from this source",
		day(3): "delete 20260103-000000: older than the newest 1",
		day(4): "keep 20260104-000000: newest common with the source, the newest",
		day(5): "keep 20260105-000000: a backup of another source",
		day(6): "keep 20260106-000000: not a received subvolume",
		day(7): "keep 20260107-000000: altered since it was received",
		day(8): "keep 20260108-000000: not a received subvolume",
	}
	verdicts := p.Plan().Verdicts
	if len(verdicts) != len(want) {
		t.Errorf("%d verdicts, want %d", len(verdicts), len(want))
	}
	for _, v := range verdicts {
		if v.String() != want[v.Name] {
			t.Errorf("%s, want %s", v, want[v.Name])
		}
	}
}

func TestPruneSource(t *testing.T) {
	other := btrfs.Subvolume{ID: 300, UUID: uuid(900)}
	history := [3]btrfs.Subvolume{snap(1, childOf(btrfs.Subvolume{}), altered), snap(2, childOf(snap(1)), altered), snap(3, childOf(snap(2)), altered)}
	restored := snap(1, childOf(btrfs.Subvolume{UUID: uuid(901)})) // home was made of a snapshot since
	tests := []struct {
		name      string
		source    btrfs.Subvolume
		snapshots subvolumes
		ledger    string
		newest    string
		want      string
	}{
		{"policy", home, subvolumes{snap(1), snap(2), snap(3)}, "", day(3), "1 2"},
		{"a snapshot of another subvolume stays", home, subvolumes{snap(1, childOf(other)), snap(2), snap(3)}, "", day(3), "2"},
		{"a snapshot of another subvolume made from the same one stays", changed(home, []change{childOf(restored)}),
			subvolumes{snap(2, childOf(changed(other, []change{childOf(restored)}))), snap(3), snap(4)}, "", day(4), "3"},
		{"snapshots of the subvolume before it was restored count", changed(home, []change{childOf(restored)}), subvolumes{restored, snap(2)}, "", day(2), "1"},
		{"the one that the source was restored from counts", changed(home, []change{childOf(snap(1))}),
			subvolumes{snap(1, childOf(btrfs.Subvolume{}), receivedAs(77)), snap(2)}, "", day(2), "1"},
		{"one that was altered stays", home, subvolumes{snap(1, altered), snap(2), snap(3)}, "", day(3), "2"},
		{"one of a history is made by altering it", history[2], history[:], "", day(3), "1 2"},
		{"writable ones and other names stay", home, subvolumes{snap(1, writable), snap(2, named("x"+day(2))), snap(3)}, "", day(3), ""},
		{"the one of a destination that is away stays", home, subvolumes{snap(1), snap(2), snap(3)}, `{"20260101-000000": {"parent_locks": ["/away"]}}`, day(3), "2"},
		{"the one that a destination lacks stays", home, subvolumes{snap(1), snap(2), snap(3)}, `{"20260102-000000": {"locks": ["/late"]}}`, day(3), "1"},
		{"the newest taken stays, whatever the clock said", home, subvolumes{snap(2), snap(3), snap(4, named(day(1)))}, "", day(1), "2"},
		{"nothing there", home, nil, "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := inFolder(Naming{}, test.snapshots)
			s.Ledger = ledger(t, test.ledger)
			now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.Local)
			c := plan.Consider(test.source, s, test.newest)
			verdicts := append(c.Foreign, plan.DecideAmong(retention.Policy{Last: 1}, now, c.Candidates, nil)...)
			if len(verdicts) != len(s.Series()) {
				t.Errorf("%d verdicts on %d snapshots", len(verdicts), len(s.Series()))
			}
			got := actions(Plan{Delete: plan.Deletions(verdicts)})
			if got := strings.ReplaceAll(strings.ReplaceAll(got, "delete ", ""), ";", ""); got != test.want {
				t.Errorf("deleted: %q, want %q, by %v", got, test.want, verdicts)
			}
		})
	}
}
