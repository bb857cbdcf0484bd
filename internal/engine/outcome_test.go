package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

var errSome = errors.New("something failed")

func failures(errs ...error) []Failure {
	var all []Failure
	for _, err := range errs {
		all = append(all, Failure{err})
	}
	return all
}

func TestOutcome(t *testing.T) {
	held := hint.New(fmt.Errorf("locking: %w", &lock.HeldError{Dir: "/d"}), "wait")
	good := DestinationReport{Transfers: []TransferReport{{Snapshot: day(1)}}}
	bad := DestinationReport{Failures: failures(errSome)}
	badTransfer := DestinationReport{Transfers: []TransferReport{{}, {Failure: &Failure{errSome}}}}
	busy := DestinationReport{Failures: failures(held)}
	onlyTransferFailed := DestinationReport{Transfers: []TransferReport{{Failure: &Failure{errSome}}}}
	deletionFailed := DestinationReport{Transfers: []TransferReport{{}}, Failures: failures(errSome)}
	incomplete := DestinationReport{Transfers: []TransferReport{{Incomplete: &Failure{errSome}}}}
	to := func(d ...DestinationReport) Report { return Report{Snapshot: day(1), Destinations: d, sends: true} }
	tests := []struct {
		name   string
		report Report
		want   Outcome
	}{
		{"nothing to do", Report{}, Done},
		{"a snapshot alone", Report{Snapshot: day(1)}, Done},
		{"all saved", to(good, DestinationReport{}), Done},
		{"one of two failed", to(good, bad), Partly},
		{"one had nothing to do, one failed", to(DestinationReport{}, bad), Failed},
		{"one had nothing to do, one saved, one failed", to(DestinationReport{}, good, bad), Partly},
		{"a transfer failed at one of two", to(badTransfer, good), Partly},
		{"one of two transfers failed at the only one", to(badTransfer), Partly},
		{"the only transfer failed", to(onlyTransferFailed), Failed},
		{"files could not be read", to(incomplete), Partly},
		{"only a deletion failed", to(deletionFailed), Partly},
		{"a deletion failed where nothing was to be sent", to(bad), Failed},
		{"all failed", to(bad, bad), Failed},
		{"the source failed, all saved", Report{Failures: failures(errSome), Destinations: []DestinationReport{good}, sends: true}, Partly},
		{"the source failed, all had nothing to do", Report{Failures: failures(errSome), Destinations: []DestinationReport{{}}, sends: true}, Failed},
		{"the source failed, nowhere to save", Report{Failures: failures(errSome)}, Failed},
		{"a snapshot was taken, something else failed", Report{Snapshot: day(1), Failures: failures(errSome)}, Partly},
		{"a snapshot was all to save, a deletion failed", Report{Snapshot: day(1), Destinations: []DestinationReport{bad}}, Partly},
		{"the only one busy", to(busy), Busy},
		{"one saved, one busy", to(good, busy), Busy},
		{"one saved, one busy, one failed", to(good, busy, bad), Partly},
		{"one busy, one failed", to(busy, bad), Failed},
	}
	for _, test := range tests {
		if got := test.report.Outcome(); got != test.want {
			t.Errorf("%s: outcome %s, want %s", test.name, got, test.want)
		}
	}
}

func TestAllFailuresHoldsEveryFailureOnce(t *testing.T) {
	var errs []error
	for i := range 6 {
		errs = append(errs, fmt.Errorf("failure %d", i))
	}
	r := Report{Failures: failures(errs[0]), Destinations: []DestinationReport{
		{Transfers: []TransferReport{{}, {Failure: &Failure{errs[1]}}, {Failure: &Failure{errs[2]}}}, Failures: failures(errs[3])},
		{},
		{Failures: failures(errs[4], errs[5])},
	}}
	if got := r.AllFailures(); !slices.Equal(got, failures(errs...)) {
		t.Errorf("%v", got)
	}
	if len(r.Failures) != 1 {
		t.Errorf("the report is changed: %v", r.Failures)
	}
}

func TestAFailureIsWrittenWithItsHint(t *testing.T) {
	for want, err := range map[string]error{
		`{"error":"something failed"}`:                      errSome,
		`{"error":"x: something failed","hint":"do \"y\""}`: fmt.Errorf("x: %w", hint.Newf(errSome, "do %q", "y")),
	} {
		if got, err := json.Marshal(Failure{err}); string(got) != want || err != nil {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
}

func TestAHintChangesNothingButTheHint(t *testing.T) {
	err := hint.New(fmt.Errorf("x: %w", fs.ErrExist), "way forward")
	if err.Error() != "x: file already exists" || !errors.Is(err, fs.ErrExist) || hint.Of(err) != "way forward" {
		t.Errorf("%q, %q", err, hint.Of(err))
	}
	if got := hint.Of(errSome); got != "" {
		t.Errorf("a hint out of nothing: %q", got)
	}
}
