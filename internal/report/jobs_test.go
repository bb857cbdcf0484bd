package report

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// resultOf is that of a run which saved something, and in which something may have failed.
func resultOf(failures ...error) *Result {
	r := &engine.Report{Source: "/srv", Destinations: []engine.DestinationReport{{
		Destination: "/mnt/usb/srv", Transfers: []engine.TransferReport{{Snapshot: "20261129-013000", Bytes: 4096}},
	}}}
	for _, err := range failures {
		r.Destinations[0].Failures = append(r.Destinations[0].Failures, engine.Failure{Err: err})
	}
	return &Result{Report: r, Outcome: r.Outcome(), Status: 3 * min(len(failures), 1)}
}

func TestANoticeTellsFirstWhatFailedAndTheWayForward(t *testing.T) {
	full := hint.New(errors.New("the disk is full"), "make room")
	jobs := Jobs{Jobs: []JobResult{
		{Job: "etc", Skipped: "not due"},
		{Job: "home", Result: resultOf(), Took: 90 * time.Second},
		{Job: "srv", Result: resultOf(full)},
	}, Failures: []engine.Failure{{Err: errors.New("disk usb is in use")}}}
	want := `srv: partly done, status 3; /mnt/usb/srv: saved 20261129-013000, 4.0 KiB, failed: the disk is full
srv: the disk is full
srv: hint: make room
etc: not run: not due
home: done, status 0, 1 min 30 s; /mnt/usb/srv: saved 20261129-013000, 4.0 KiB
disk usb is in use
`
	if got := jobs.Text(); got != want {
		t.Errorf("%s\nwant:\n%s", got, want)
	}
}

func TestTheTableTellsWhatBecameOfEachJob(t *testing.T) {
	endedEarly := &engine.Report{Source: "/srv", Failures: []engine.Failure{{Err: errors.New("ended by a signal")}},
		Destinations: []engine.DestinationReport{{Destination: "/mnt/usb/srv"}}}
	jobs := Jobs{Jobs: []JobResult{
		{Job: "busy", Failures: []engine.Failure{{Err: &lock.HeldError{Dir: "/run/x"}}}},
		{Job: "ended", Result: &Result{Report: endedEarly}},
		{Job: "home", Result: resultOf()},
		{Job: "etc", Skipped: "not due until tomorrow"},
	}}
	var got strings.Builder
	if err := jobs.WriteTable(&got, 80); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(got.String(), "\n")
	for i, want := range []string{"VERDICT", "busy", "ended early", "saved", "etc: not due until tomorrow"} {
		if i >= len(lines) || !strings.HasSuffix(strings.TrimSpace(lines[i]), want) {
			t.Fatalf("line %d does not end with %q:\n%s", i, want, got.String())
		}
	}
}

func TestManySavedBackupsAreCounted(t *testing.T) {
	run := Run{Outcome: engine.Done, Destinations: []Destination{{Destination: "/b", Saved: []string{"1", "2", "3", "4"}, Bytes: 1}}}
	if got := run.Line(); !strings.Contains(got, "saved 4, ") {
		t.Error(got)
	}
}
