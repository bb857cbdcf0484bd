package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// away is a source that cannot be opened.
type away struct{ *fakeSource }

func (away) Open(context.Context) error { return errSome }

// surveyed looks at a job on the 20th of January.
func surveyed(t *testing.T, s Source, d Destination, changes ...func(*Job)) (*Standing, StandingAt) {
	t.Helper()
	job := jobOf(s, d, changes...)
	job.Now = func() time.Time { return time.Date(2026, 1, 20, 12, 0, 0, 0, time.Local) }
	standing := Survey(t.Context(), job)
	return standing, standing.Destinations[0]
}

func remembering(t *testing.T, sources ...btrfs.UUID) func(*Job) {
	t.Helper()
	state := lock.State{Dir: t.TempDir()}
	var words []string
	for _, uuid := range sources {
		words = append(words, uuid.String())
	}
	if err := state.SetSource(t.Context(), "/home", words); err != nil {
		t.Fatal(err)
	}
	return func(j *Job) { j.State = state }
}

func TestASurveyCountsTheCompleteBackupsOfThisSourceAlone(t *testing.T) {
	another := snap(9, childOf(snap(15)))
	for _, test := range []struct {
		claim  string
		there  subvolumes
		number int
		newest uint64 // day
		ahead  int
	}{
		{"those of its snapshots", subvolumes{backup(snap(1)), backup(snap(3))}, 2, 3, 0},
		{"none", nil, 0, 0, 0},
		{"an altered one is none", subvolumes{backup(snap(1)), backup(snap(3), altered)}, 1, 1, 0},
		{"nor one that can be written to", subvolumes{backup(snap(1)), backup(snap(3), writable)}, 1, 1, 0},
		{"nor one that is not finished", subvolumes{backup(snap(1)), backup(snap(3), hidden)}, 1, 1, 0},
		{"nor another source's of the same name", subvolumes{backup(snap(1)), backup(another, named(day(3)))}, 1, 1, 0},
		{"nor one that nobody knows", subvolumes{backup(snap(1)), foreign(4)}, 1, 1, 0},
		{"nor one of another series", subvolumes{backup(snap(1)), backup(snap(3), named("x"+day(3)))}, 1, 1, 0},
		{"one of the future is told apart", subvolumes{backup(snap(1)), backup(snap(25))}, 1, 1, 1},
	} {
		s, d := newFakes(snap(1), snap(3), another, snap(25))
		d.here = test.there
		standing, got := surveyed(t, s, d)
		want, _ := Naming{}.Time(day(test.newest))
		if test.newest == 0 {
			want = time.Time{}
		}
		if got.Number != test.number || !got.Newest.Equal(want) || got.Ahead != test.ahead || got.Err != nil {
			t.Errorf("%s: %+v", test.claim, got)
		}
		if kept := standing.Snapshots; kept.Number != 2 || kept.Ahead != 1 || kept.Newest.Day() != 3 {
			t.Errorf("%s: at the source there are %+v", test.claim, kept)
		}
		d.want(t) // nothing happened
	}
}

func TestASnapshotThatWasAlteredDoesNotCountAsOne(t *testing.T) {
	s, d := newFakes(snap(1), snap(3, altered))
	if standing, _ := surveyed(t, s, d); standing.Snapshots.Number != 1 || standing.Snapshots.Newest.Day() != 1 {
		t.Errorf("%+v", standing.Snapshots)
	}
}

func TestWithoutTheSourceTheRecordTellsWhoseBackupsThereAre(t *testing.T) {
	s, d := newFakes()
	mine, others := foreign(4), foreign(5)
	there := &placed{fakeDestination: d, contents: Contents{Identity: "a disk", Listing: btrfs.Listing{InDirectory: subvolumes{mine, others, foreign(6, childOf(mine))}},
		Origins: map[btrfs.UUID]btrfs.UUID{mine.ReceivedUUID: home.UUID, others.ReceivedUUID: uuid(77)}}}
	standing, got := surveyed(t, away{s}, there, remembering(t, home.UUID))
	if !errors.Is(standing.Err, errSome) || got.Err != nil || got.Number != 1 || got.Newest.Day() != 4 {
		t.Errorf("%v; %+v", standing.Err, got)
	}
	for claim, change := range map[string]func(*Job){"of another source": remembering(t), "none": func(*Job) {}} {
		if _, got := surveyed(t, away{s}, there, change); got.Err == nil || got.Number > 0 {
			t.Errorf("with a record of %s: %+v", claim, got)
		}
	}
}

func TestARecordThatIsDamagedHidesNoBackupsOfASourceThatIsThere(t *testing.T) {
	s, d := newFakes(snap(1))
	d.here = subvolumes{backup(snap(1))}
	dir := t.TempDir()
	for _, name := range []string{"sources.json", "destinations.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, got := surveyed(t, s, d, func(j *Job) { j.State.Dir = dir }); got.Err != nil || got.Number != 1 {
		t.Errorf("%+v", got)
	}
}

func TestCompleteBackupsOfADirectoryAreKnownByTheirRecords(t *testing.T) {
	_, d := newFakes()
	free := uint64(5)
	there := &placed{fakeDestination: d, contents: Contents{Free: &free, Recorded: []Recorded{
		{Name: day(1), Complete: true}, {Name: day(2), Complete: true}, {Name: day(3)}, {Name: day(4), Complete: true, OfAnother: "x"},
		{Name: "x" + day(5), Complete: true}}}}
	_, got := surveyed(t, fakeDirectory{errSome}, there)
	if got.Err != nil || got.Number != 2 || got.Newest.Day() != 2 || got.Oldest.Day() != 1 || got.Free == nil || *got.Free != 5 {
		t.Errorf("%+v", got)
	}
	there.contents.Received = []string{day(6)}
	if _, got := surveyed(t, fakeDirectory{errSome}, there); got.Err == nil || got.Number > 0 {
		t.Errorf("where the source may be a subvolume that is not mounted: %+v", got)
	}
	if _, got := surveyed(t, fakeDirectory{}, there); got.Err != nil || got.Number != 2 {
		t.Errorf("where it is a directory: %+v", got)
	}
}

func TestTheEmptyPlaceOfAKnownDiskIsNoDestinationWithoutBackups(t *testing.T) {
	s, d := newFakes(snap(1))
	state := lock.State{Dir: t.TempDir()}
	if err := state.AddUsed(t.Context(), d.String(), "a disk"); err != nil {
		t.Fatal(err)
	}
	if _, got := surveyed(t, s, d, func(j *Job) { j.State = state }); got.Err == nil || !strings.Contains(got.Err.Error(), "are gone") {
		t.Errorf("%+v", got)
	}
	if _, got := surveyed(t, s, d); got.Err != nil || got.Number != 0 {
		t.Errorf("where none was: %+v", got)
	}
}

func TestOfADestinationThatCannotBeListedTheLedgerTells(t *testing.T) {
	s, d := newFakes(snap(1), snap(2), snap(3))
	s.ledger = `{"` + day(2) + `": {"parent_locks": ["/backups"]}}`
	if _, got := surveyed(t, s, blindDestination{d}); !got.OnRecord || got.Newest.Day() != 2 || got.Number != 0 || got.Err != nil {
		t.Errorf("%+v", got)
	}
	if _, got := surveyed(t, s, &placed{fakeDestination: d, openErr: errSome}); got.Err == nil || got.Newest.Day() != 2 || got.Number != 0 {
		t.Errorf("of one that cannot be opened: %+v", got)
	}
}

// stuck is a destination that never answers, whatever becomes of the context.
type stuck struct {
	*fakeDestination
	until chan struct{}
}

func (s stuck) String() string { return "/stuck" }

func (s stuck) Open(context.Context) error {
	<-s.until
	return nil
}

func TestADestinationThatHangsKeepsNoOtherFromAnswering(t *testing.T) {
	synctest.Test(t, whileOneHangs)
}

func whileOneHangs(t *testing.T) {
	s, d := newFakes(snap(1))
	d.here = subvolumes{backup(snap(1))}
	hangs := stuck{d, make(chan struct{})}
	defer close(hangs.until)
	errLate := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errLate)
	defer cancel()
	job := jobOf(s, d)
	job.Now = func() time.Time { return time.Date(2026, 1, 20, 12, 0, 0, 0, time.Local) }
	job.Destinations = append(job.Destinations, hangs, Absent("/away", "its disk is not there"))
	got := Survey(ctx, job).Destinations
	if got[0].Err != nil || got[0].Number != 1 {
		t.Errorf("of the one that answers: %+v", got[0])
	}
	if !errors.Is(got[1].Err, errLate) || !strings.Contains(got[1].Err.Error(), "/stuck") {
		t.Errorf("of the one that hangs: %+v", got[1])
	}
	if got[2].Absent != "its disk is not there" || got[2].Err == nil {
		t.Errorf("of the one that is absent: %+v", got[2])
	}
}
