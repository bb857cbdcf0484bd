package engine

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

func TestWhatAnAbsentDestinationNeedsIsKeptAndItsAbsenceIsNoFailure(t *testing.T) {
	state := lock.State{Dir: t.TempDir()}
	if err := state.AddUsed(t.Context(), "/away", "a disk"); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	run := func(ledger string) (*fakeSource, *Report) {
		s, d := newFakes(snap(1), snap(2), snap(3))
		s.ledger = ledger
		report, err := Run(t.Context(), jobOf(s, d, func(j *Job) {
			j.Destinations = append(j.Destinations, Absent("/away", "its disk is not there"))
			j.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
			j.State, j.KeepSnapshots = state, retention.Policy{Last: 1}
		}))
		if err != nil || report.Outcome() != Done {
			t.Fatalf("%v, %v", report.AllFailures(), err)
		}
		if got := report.Destinations[1]; got.Absent != "its disk is not there" || got.Failed() {
			t.Errorf("of the absent one it tells %+v", got)
		}
		return s, report
	}
	s, report := run(`{"` + day(1) + `": {"parent_locks": ["/away"]}}`)
	s.want(t, "send 1", "send 2 from 1", "send 3 from 2", "delete 2")
	if l := ledger(t, s.ledger); !l.IsCommon("/away", day(1)) || len(report.Deleted) != 1 {
		t.Errorf("the ledger became %s", s.ledger)
	}
	log.Reset()
	s, _ = run("{}") // which does not tell what it needs
	s.want(t, "send 1", "send 2 from 1", "send 3 from 2")
	if strings.Contains(log.String(), "no snapshots are deleted") {
		t.Errorf("a disk that may be away is warned of: %s", log.String())
	}
}

func TestARunWhoseDestinationsAreAllAbsentStillHasASource(t *testing.T) {
	s, _ := newFakes(snap(1))
	d := Absent("/away", "not due")
	report, err := Run(t.Context(), jobOf(s, d, func(j *Job) { j.NoSnapshot = false }))
	if err != nil || len(report.Failures) != 1 || !errors.Is(report.Failures[0].Err, errNoTake) {
		t.Errorf("a snapshot was not tried: %v, %v", report.AllFailures(), err)
	}
}

func TestADestinationMayHaveAPolicyOfItsOwn(t *testing.T) {
	s, d := newFakes(snap(1), snap(2), snap(3))
	d.here = subvolumes{backup(snap(1)), backup(snap(2)), backup(snap(3))}
	save(t, jobOf(s, d, func(j *Job) {
		j.KeepBackups = retention.Policy{Last: 3}
		j.KeepAt = map[string]retention.Policy{"/backups": {Last: 2}}
	}))
	d.want(t, "delete 1")
}
