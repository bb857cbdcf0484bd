package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// saveBlindly runs a job for a destination that cannot be listed, with the newest snapshot on record as sent there.
func saveBlindly(t testing.TB, s *fakeSource, d *fakeDestination, recorded string, changes ...func(*Job)) DestinationReport {
	t.Helper()
	if recorded != "" {
		s.ledger = `{"` + recorded + `": {"parent_locks": ["/backups"]}}`
	}
	return save(t, jobOf(s, blindDestination{d}, changes...))
}

// wantOnRecord compares what the ledger says of the destination.
func wantOnRecord(t testing.TB, s *fakeSource, common, outstanding string) {
	t.Helper()
	l := ledger(t, s.ledger)
	for _, snapshot := range s.here {
		if l.IsCommon("/backups", snapshot.Name) != (snapshot.Name == common) {
			t.Errorf("%s is on record as sent, want %q; the ledger: %s", snapshot.Name, common, s.ledger)
		}
	}
	if (outstanding == "") != (len(l.Outstanding()) == 0) || !strings.Contains(s.ledger, outstanding) {
		t.Errorf("outstanding are not %q: %s", outstanding, s.ledger)
	}
}

func TestAWriteOnlyDestinationGetsWhatIsNewerThanTheLedgerSaysInOrder(t *testing.T) {
	s1, s2, s3, s4 := snap(1), snap(2), snap(3), snap(4)
	wrongClock := snap(5, named(day(1))) // the newest, whatever its name says
	complete := func(j *Job) { j.NoIncremental = true }
	keepOne := func(j *Job) { j.KeepBackups = retention.Policy{Last: 1} }
	tests := []struct {
		name      string
		snapshots subvolumes
		recorded  string
		change    func(*Job)
		want      string
	}{
		{"a new one begins with the newest", subvolumes{s3, s1, s2}, "", nil, "send 3"},
		{"some sent", subvolumes{s1, s2, s3, s4}, day(2), nil, "send 3 from 2; send 4 from 3"},
		{"the newest sent", subvolumes{s1, s2}, day(2), nil, ""},
		{"one taken while the clock was wrong", subvolumes{s2, s3, wrongClock}, day(3), nil, "send 1 from 3"},
		{"complete copies", subvolumes{s1, s2, s3, s4}, day(2), complete, "send 3; send 4"},
		{"complete copies, nothing sent yet", subvolumes{s1, s2, s3}, "", complete, "send 3"},
		{"a policy that would keep one", subvolumes{s1, s2, s3, s4}, day(2), keepOne, "send 3 from 2; send 4 from 3"},
		{"a policy, nothing sent yet", subvolumes{s1, s2}, "", keepOne, "send 2"},
		{"what is on record is gone", subvolumes{s2, s3}, day(1), nil, "send 3"},
	}
	for _, test := range tests {
		for _, dryRun := range []bool{false, true} {
			s, d := newFakes(test.snapshots...)
			saved := saveBlindly(t, s, d, test.recorded, func(j *Job) {
				j.DryRun = dryRun
				if test.change != nil {
					test.change(j)
				}
			})
			if len(saved.Failures) > 0 || len(saved.Deleted) > 0 || len(saved.Leftovers) > 0 || len(saved.Verdicts) > 0 {
				t.Errorf("%s: %+v", test.name, saved)
			}
			wantReported(t, test.name, saved.Transfers, test.want)
			sends := slices.DeleteFunc(s.entries, func(e string) bool { return !strings.HasPrefix(e, "send ") })
			if got := strings.Join(sends, "; "); !dryRun && got != test.want || dryRun && got != "" {
				t.Errorf("%s, dry run %t: %s, want %s", test.name, dryRun, got, test.want)
			}
			if !dryRun {
				wantOnRecord(t, s, slices.MaxFunc(test.snapshots, kin.ByAge).Name, "")
			}
		}
	}
}

// wantReported compares what the report says of transfers.
func wantReported(t testing.TB, name string, transfers []TransferReport, want string) {
	t.Helper()
	var d diary
	for _, sent := range transfers {
		d.note("%s", strings.TrimSuffix("send "+sent.Snapshot+" from "+sent.Parent, " from "))
		if sent.Failure != nil {
			t.Errorf("%s: %v", name, sent.Failure.Err)
		}
	}
	if got := strings.Join(d.entries, "; "); got != want {
		t.Errorf("%s: reported: %s, want %s", name, got, want)
	}
}

func TestWhatAWriteOnlyDestinationHoldsIsNotVerifiedAndSaidSo(t *testing.T) {
	s, d := newFakes(snap(1))
	saved := saveBlindly(t, s, d, "")
	if len(saved.Transfers) != 1 || !saved.Transfers[0].Unverified || saved.Failed() {
		t.Errorf("%+v", saved)
	}
	s.want(t, "send 1")

	s, d = newFakes(snap(1))
	if saved := save(t, jobOf(s, d)); len(saved.Transfers) != 1 || saved.Transfers[0].Unverified || saved.Failed() {
		t.Errorf("of a destination that was looked at: %+v", saved)
	}
}

func TestAfterAFailureAWriteOnlyDestinationGetsNothingMore(t *testing.T) {
	s, d := newFakes(snap(1), snap(2), snap(3), snap(4))
	d.fail = []error{nil, errSome}
	saved := saveBlindly(t, s, d, day(1))
	if len(saved.Transfers) != 2 || saved.Transfers[0].Failure != nil || saved.Transfers[1].Failure == nil || saved.Transfers[1].Unverified {
		t.Errorf("%+v", saved.Transfers)
	}
	s.want(t, "send 2 from 1", "send 3 from 2")
	wantOnRecord(t, s, day(2), day(4))
}

func TestAWriteOnlyDestinationIsRefusedWithoutTheLedger(t *testing.T) {
	s, d := newFakes(snap(1))
	s.badLedger = true
	saved := saveBlindly(t, s, d, "")
	if len(saved.Failures) != 1 || hint.Of(saved.Failures[0].Err) == "" {
		t.Errorf("failures: %v", saved.Failures)
	}
	s.want(t)
}

func TestPlanForAWriteOnlyDestinationSendsOldestFirst(t *testing.T) {
	sent := snap(2)
	blind := func(p *plan.Planner) { p.WriteOnly, p.NewestSent = true, &sent }
	got := actions(newPlanner(subvolumes{snap(4), snap(1), sent, snap(3)}, []btrfs.Subvolume{plan.Assumed(sent)}, blind, noIncremental).Plan())
	if want := "send 3; send 4"; got != want {
		t.Errorf("plan: %s, want %s", got, want)
	}
}
