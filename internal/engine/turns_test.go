package engine

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/lock"
)

// contested is a folder in use by a run that waits for the source.
type contested struct {
	*fakeDestination
	source *lockedSource
}

func (d contested) Lock(_ context.Context, waiting func(*lock.HeldError)) (func() error, error) {
	if d.source.releases == 0 {
		if waiting != nil {
			panic("the destination is waited for while the source is locked")
		}
		return nil, &lock.HeldError{Dir: d.name, PID: 4711, Command: "another"}
	}
	return func() error { return nil }, nil
}

// lockedSource counts how often its lock was given up.
type lockedSource struct {
	*fakeSource
	releases int
}

func (s *lockedSource) Lock(context.Context, func(*lock.HeldError)) (func() error, error) {
	return func() error { s.releases++; return nil }, nil
}

func TestTheLockOfTheSourceIsGivenUpBeforeThatOfADestinationIsWaitedFor(t *testing.T) {
	source, free := newFakes(snap(1), snap(2))
	used := &fakeDestination{fakeFolder: fakeFolder{diary: source.diary, name: "/used"}}
	locked := &lockedSource{fakeSource: source}
	var said strings.Builder
	report, err := Run(t.Context(), jobOf(locked, contested{used, locked}, func(j *Job) {
		j.Destinations = append(j.Destinations, free)
		j.Log = slog.New(slog.NewTextHandler(&said, nil))
	}))
	if err != nil || report.Outcome() != Done {
		t.Fatalf("%v, %v", err, report.AllFailures())
	}
	source.want(t, "send 1", "send 2 from 1", "send 1", "send 2 from 1")
	if locked.releases != 2 || strings.Count(said.String(), "/used: waiting for process 4711 (another)") != 1 {
		t.Errorf("the source was locked %d times: %s", locked.releases, said.String())
	}
	for _, d := range report.Destinations {
		if len(d.Transfers) != 2 {
			t.Errorf("%s: %+v", d.Destination, d)
		}
	}
	if got := strings.Join(strings.Fields(source.ledger), ""); got != `{"`+day(2)+`":{"parent_locks":["/backups","/used"]}}` {
		t.Errorf("the ledger says %s", got)
	}
}

func TestWithoutTheLockOfTheSourceItsLedgerIsNotWritten(t *testing.T) {
	source, destination := newFakes(snap(1))
	locked := &lockedSource{fakeSource: source}
	ctx, cancel := context.WithCancelCause(t.Context())
	written := 0
	source.writeErr = func() error {
		if written++; locked.releases > 0 {
			t.Error("it is written")
		}
		return nil
	}
	busy := stillContested{contested{destination, locked}, func() { cancel(errSome) }}
	report, err := Run(ctx, jobOf(locked, busy))
	if err != errSome || written != 1 || len(report.AllFailures()) != 1 {
		t.Errorf("%v, written %d times, %v", err, written, report.AllFailures())
	}
}

// stillContested is asked for once more when the source is free.
type stillContested struct {
	contested
	asked func()
}

func (d stillContested) Lock(context.Context, func(*lock.HeldError)) (func() error, error) {
	if d.source.releases > 0 {
		d.asked()
	}
	return nil, &lock.HeldError{Dir: d.name}
}
