package engine

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/lock"
)

// TestWhereTheLedgerCannotBeWritten has snapshots 1 to 3, of which /backups is on record as holding 1, and /away 2.
func TestWhereTheLedgerCannotBeWritten(t *testing.T) {
	tests := []struct {
		name     string
		writeErr error
		heals    bool // with the first deletion
		saveErr  error
		want     []string // deletions
		failures int
		ledger   string // that is written, without white space
	}{
		{name: "what only the file holds goes where it makes room", writeErr: syscall.ENOSPC, heals: true, want: []string{"delete 1"},
			ledger: `{"2":{"parent_locks":["/away"]},"3":{"parent_locks":["/backups"]}}`},
		{name: "what only the file holds stays while the destination lacks the newest", writeErr: syscall.ENOSPC, saveErr: errSome, failures: 3,
			ledger: `{"1":{"parent_locks":["/backups"]},"2":{"parent_locks":["/away"]}}`},
		{name: "what only the file holds stays where room does not help", writeErr: syscall.EROFS, failures: 1,
			ledger: `{"1":{"parent_locks":["/backups"]},"2":{"parent_locks":["/away"]}}`},
		{name: "it is written", want: []string{"delete 1"},
			ledger: `{"2":{"parent_locks":["/away"]},"3":{"parent_locks":["/backups"]}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source, destination := newFakes(snap(1), snap(2), snap(3))
			source.ledger = `{"` + day(1) + `": {"parent_locks": ["/backups"]}, "` + day(2) + `": {"parent_locks": ["/away"]}}`
			destination.here = subvolumes{backup(snap(1))}
			destination.fail = []error{test.saveErr, test.saveErr}
			deletions := func() []string {
				return slices.DeleteFunc(slices.Clone(source.entries), func(e string) bool { return !strings.HasPrefix(e, "delete") })
			}
			source.writeErr = func() error {
				if test.heals && len(deletions()) > 0 {
					return nil
				}
				return test.writeErr
			}
			report, err := Run(t.Context(), jobOf(source, destination, func(j *Job) { j.KeepSnapshots.Last = 1 }))
			if err != nil || len(report.AllFailures()) != test.failures {
				t.Errorf("failures: %v, %v", report.AllFailures(), err)
			}
			if got := deletions(); !slices.Equal(got, test.want) {
				t.Errorf("%q", got)
			}
			written := strings.Join(strings.Fields(source.ledger), "")
			for n := range uint64(4) {
				written = strings.ReplaceAll(written, day(n), string(rune('0'+n)))
			}
			if written != test.ledger {
				t.Errorf("the ledger says %s", written)
			}
		})
	}
}

// The run before was ended after it had deleted 1, and before it could write that /backups holds 2.
func TestWhereTheLedgerNamesASnapshotThatIsGoneNoneIsDeletedWhileTheDestinationIsAway(t *testing.T) {
	for common, want := range map[uint64]int{1: 0, 2: 1} {
		source, destination := newFakes(snap(2), snap(3), snap(4))
		source.ledger = `{"` + day(common) + `": {"parent_locks": ["/backups"]}}`
		away := unreachable{destination}
		if _, err := Run(t.Context(), jobOf(source, away, func(j *Job) { j.KeepSnapshots.Last = 1 })); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(strings.Join(source.entries, "; "), "delete"); got != want {
			t.Errorf("%d is on record: %q", common, source.entries)
		}
	}
}

func TestAnAbsentDestinationThatIsForgottenHoldsNoSnapshot(t *testing.T) {
	source, destination := newFakes(snap(2), snap(3))
	source.ledger = `{"` + day(2) + `": {"parent_locks": ["/backups"]}}`
	state := lock.State{Dir: t.TempDir()}
	if err := state.AddUsed(t.Context(), "/backups", "id"); err != nil {
		t.Fatal(err)
	}
	forget := func(j *Job) { j.KeepSnapshots.Last, j.Forget, j.State = 1, true, state }
	if _, err := Run(t.Context(), jobOf(source, unreachable{destination}, forget)); err != nil {
		t.Fatal(err)
	}
	source.want(t, "delete 2")
	if strings.Contains(source.ledger, "backups") {
		t.Errorf("the ledger says %s", source.ledger)
	}
}

type unreachable struct{ *fakeDestination }

func (unreachable) Open(context.Context) error { return errSome }
