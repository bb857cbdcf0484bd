package engine

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// fakeDirectory is a directory, or none.
type fakeDirectory struct{ err error }

func (fakeDirectory) String() string                            { return "/etc" }
func (d fakeDirectory) Open(context.Context) error              { return d.err }
func (fakeDirectory) Omitted(context.Context) ([]string, error) { return nil, nil }

// fakeMirror is a destination of copies of a directory, which writes down what is asked of it.
type fakeMirror struct {
	*diary
	contents Contents
	made     Result
	saveErr  error
	openErr  error

	undeletable string
}

func (m *fakeMirror) String() string { return "/backups" }

func (m *fakeMirror) Open(context.Context) error {
	m.note("open")
	return m.openErr
}

func (m *fakeMirror) Create(context.Context) error {
	m.note("create")
	return nil
}

func (m *fakeMirror) Lock(context.Context, func(*lock.HeldError)) (func() error, error) {
	return func() error { return nil }, nil
}

func (m *fakeMirror) List(context.Context) (Contents, error) {
	m.note("list")
	return m.contents, nil
}

func (m *fakeMirror) Mark(context.Context) (string, error) {
	m.note("mark")
	return "its identity", nil
}

func (m *fakeMirror) Save(_ context.Context, t Transfer) (Result, error) {
	m.note("save %s on %q", t.Snapshot.Name, t.ParentName())
	return m.made, m.saveErr
}

func (m *fakeMirror) Rehearse(_ context.Context, t Transfer) (Result, error) {
	m.note("rehearse %s on %q", t.Snapshot.Name, t.ParentName())
	return m.made, m.saveErr
}

func (m *fakeMirror) Delete(_ context.Context, names []string) ([]string, error) {
	m.note("delete %s", strings.Join(names, " "))
	if slices.Contains(names, m.undeletable) {
		return nil, errors.New("it is immutable")
	}
	return names, nil
}

func (m *fakeMirror) Link(_ context.Context, name, target string) error {
	m.note("link %s %s", name, target)
	return nil
}

// fakeDaemon can be saved to only.
type fakeDaemon struct{ to *fakeMirror }

func (d fakeDaemon) String() string { return "rsync://nas/backups" }

func (d fakeDaemon) Save(ctx context.Context, t Transfer) (Result, error) { return d.to.Save(ctx, t) }

func copiesOf(days ...uint64) []Recorded {
	var all []Recorded
	for _, d := range days {
		all = append(all, Recorded{Name: day(d), Complete: true})
	}
	return all
}

// copyJobOf is a job on the tenth day that keeps two backups.
func copyJobOf(d Destination, changes ...func(*Job)) Job {
	job := Job{Source: fakeDirectory{}, Destinations: []Destination{d}, KeepBackups: retention.Policy{Last: 2}, Settings: Settings{
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return dayTime(10) }}}
	for _, c := range changes {
		c(&job)
	}
	return job
}

func dayTime(n uint64) time.Time {
	t, _ := Naming{}.Time(day(n))
	return t
}

func newMirror(copies ...Recorded) *fakeMirror {
	return &fakeMirror{diary: new(diary), contents: Contents{Recorded: copies, Identity: "its identity"}}
}

func runCopy(t testing.TB, job Job) *Report {
	t.Helper()
	report, err := Run(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestACopyThatWaitedForItsNameIsNotDatedInTheFuture(t *testing.T) {
	m := newMirror(copiesOf(10)...)
	began := time.Now()
	runCopy(t, copyJobOf(m, func(j *Job) {
		j.KeepBackups.Last = 1
		j.Now = func() time.Time { return dayTime(10).Add(950*time.Millisecond + time.Since(began)) }
	}))
	if last := m.entries[len(m.entries)-1]; last != "delete 10" {
		t.Errorf("the run ended with: %s", last)
	}
}

func TestACopyBuildsOnTheNewestBackupAndPrunesTheOldest(t *testing.T) {
	m := newMirror(copiesOf(1, 2, 3)...)
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", "list", "mark", `save 10 on "3"`, "link .latest 10", "delete 1 2")
	if report.Outcome() != Done || !report.Copy {
		t.Errorf("outcome %s of %+v", report.Outcome(), report)
	}
}

func TestACopyBuildsOnTheBackupThatWasFinishedLastWhateverItsDate(t *testing.T) {
	m := newMirror(copiesOf(20, 2, 3)...)
	m.contents.Recorded[2].Complete = false
	m.made.Incomplete = errSome
	runCopy(t, copyJobOf(m, func(j *Job) { j.KeepBackups.Last = 1 }))
	m.want(t, "open", "list", "list", "mark", `save 10 on "3"`, "link .latest 10", "delete 3")
}

func TestNothingIsPrunedAfterACopyThatFailed(t *testing.T) {
	m := newMirror(copiesOf(1, 2, 3)...)
	m.saveErr = errSome
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", "list", "mark", `save 10 on "3"`)
	if report.Outcome() != Failed || len(report.AllFailures()) != 1 {
		t.Errorf("outcome %s, failures %v", report.Outcome(), report.AllFailures())
	}
}

func TestNoMirrorIsTouchedForABadSource(t *testing.T) {
	m := newMirror(copiesOf(1)...)
	_, err := Run(t.Context(), copyJobOf(m, func(j *Job) { j.Source = fakeDirectory{errSome} }))
	if !errors.Is(err, errSome) {
		t.Errorf("error: %v", err)
	}
	m.want(t)
}

func TestIncompleteCopiesNeverPushOutTheNewestCompleteOne(t *testing.T) {
	m := newMirror(copiesOf(1, 2)...)
	for d := uint64(3); d <= 6; d++ {
		m.contents.Recorded = append(m.contents.Recorded, Recorded{Name: day(d)})
	}
	m.made.Incomplete = errSome
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", "list", "mark", `save 10 on "6"`, "link .latest 10",
		"delete 1 3 4 5")
	if report.Outcome() != Partly || !errors.Is(report.AllFailures()[0].Err, errSome) {
		t.Errorf("outcome %s, failures %v", report.Outcome(), report.AllFailures())
	}
}

func TestBackupsOfOthersAreNeitherDeletedNorCounted(t *testing.T) {
	m := newMirror(copiesOf(1, 2, 3)...)
	m.contents.Recorded[0].OfAnother = "nas:/home"
	m.contents.Recorded = append(m.contents.Recorded, Recorded{Name: "root-" + day(4), Complete: true})
	var told strings.Builder
	log := func(j *Job) { j.Log = slog.New(slog.NewTextHandler(&told, nil)) }
	report := runCopy(t, copyJobOf(m, log))
	m.want(t, "open", "list", "list", "mark", `save 10 on "3"`, "link .latest 10", "delete 2")
	if !strings.Contains(told.String(), ": 1 left alone: a backup of nas:/home") {
		t.Errorf("it told %s", told.String())
	}
	if v := report.Destinations[0].Verdicts[0]; v.Name != day(1) || !v.Keep {
		t.Errorf("verdict on another source's backup: %v", v)
	}
}

func TestADeletionThatFailedIsTriedAgainAndStopsNoOther(t *testing.T) {
	m := newMirror(copiesOf(1, 2, 3)...)
	m.contents.Deleting = []string{".0.deleting"}
	m.undeletable = ".0.deleting"
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", "list", "delete .0.deleting", "mark", `save 10 on "3"`, "link .latest 10", "delete 1 2")
	if failures := report.AllFailures(); report.Outcome() != Partly || len(failures) != 1 {
		t.Errorf("outcome %s, failures %v", report.Outcome(), failures)
	}
}

func TestWithoutAChangeThereIsNoBackupAndNoneIsPushedOut(t *testing.T) {
	m := newMirror(copiesOf(1, 2)...)
	m.contents.Recorded = append(m.contents.Recorded, Recorded{Name: day(3), Complete: true, OfAnother: "nas:/home"})
	m.made.Unchanged = true
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", "list", "mark", `save 10 on "2"`)
	if d := report.Destinations[0]; report.Outcome() != Done || len(d.Transfers)+len(d.Deleted) > 0 {
		t.Errorf("outcome %s, %+v", report.Outcome(), d)
	}
}

func TestADryRunOfACopyChangesNothing(t *testing.T) {
	m := newMirror(copiesOf(1, 2, 3)...)
	dry := func(j *Job) { j.DryRun = true }
	report := runCopy(t, copyJobOf(m, dry))
	m.want(t, "open", "list", "list", `rehearse 10 on "3"`)
	if got := report.Destinations[0].Deleted; !slices.Equal(got, []string{day(1), day(2)}) {
		t.Errorf("would delete %q", got)
	}
	m = newMirror()
	m.openErr = fs.ErrNotExist
	if report := runCopy(t, copyJobOf(m, dry)); report.Outcome() != Done || len(report.Destinations[0].Transfers) != 1 {
		t.Errorf("without the folder: %+v", report)
	}
	m.want(t, "open")
}

func TestANameThatIsTakenIsNotUsed(t *testing.T) {
	m := newMirror(copiesOf(9, 10)...)
	m.contents.Taken = []string{Naming{}.Name(dayTime(10).Add(time.Second))}
	now := dayTime(10)
	clock := func(j *Job) {
		j.Now = func() time.Time {
			now = now.Add(500 * time.Millisecond)
			return now
		}
	}
	runCopy(t, copyJobOf(m, clock))
	want := "save " + (Naming{}).Name(dayTime(10).Add(2*time.Second))
	if !slices.ContainsFunc(m.entries, func(e string) bool { return strings.HasPrefix(e, want) }) {
		t.Errorf("%q, want %q", m.entries, want)
	}
}

func TestACopyNobodyAskedForStaysOutOfAFolderOfBtrfsBackups(t *testing.T) {
	for _, test := range []struct{ automatic, received, refused bool }{{true, true, true}, {true, false, false}, {false, true, false}} {
		m := newMirror()
		m.contents.Taken = []string{day(1), day(2)}
		if test.received {
			m.contents.Received = m.contents.Taken
		}
		report := runCopy(t, copyJobOf(m, func(j *Job) { j.Automatic = test.automatic }))
		if refused := report.Outcome() == Failed; refused != test.refused {
			t.Errorf("%+v: outcome %s, failures %v", test, report.Outcome(), report.AllFailures())
		}
	}
}

func TestAMirrorThatNobodyCanListIsOnlySavedTo(t *testing.T) {
	m := newMirror(copiesOf(1, 2, 3)...)
	report := runCopy(t, copyJobOf(fakeDaemon{m}))
	m.want(t, `save 10 on ""`)
	if !report.Destinations[0].Transfers[0].Unverified {
		t.Error("it counts as verified")
	}
}

func TestWhatIsSentOnIsKeptForTheNextIncrement(t *testing.T) {
	m := newMirror(copiesOf(1, 2, 3)...)
	m.contents.Ledger = ledger(t, `{"`+day(1)+`": {"parent_locks": ["/archive"]}}`)
	runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", "list", "mark", `save 10 on "3"`, "link .latest 10", "delete 2")

	m = newMirror(copiesOf(1, 2, 3)...)
	m.contents.NoPrune = errSome
	if report := runCopy(t, copyJobOf(m)); report.Outcome() != Partly || len(report.Destinations[0].Transfers) != 1 {
		t.Errorf("outcome %s of %+v", report.Outcome(), report)
	}
	m.want(t, "open", "list", "list", "mark", `save 10 on "3"`, "link .latest 10")
}
