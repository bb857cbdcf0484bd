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

	"btrfs-backup/internal/progress"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// fakeTree is a directory, or none.
type fakeTree struct{ err error }

func (fakeTree) String() string                { return "/etc" }
func (t fakeTree) Check(context.Context) error { return t.err }

// fakeMirror writes down what is asked of it.
type fakeMirror struct {
	*diary
	copies  Copies
	made    Copied
	saveErr error
	openErr error
}

func (m *fakeMirror) String() string { return "/backups" }

func (m *fakeMirror) Open(context.Context, bool) error {
	m.note("open")
	return m.openErr
}

func (m *fakeMirror) Lock(context.Context, func(*lock.HeldError)) (func() error, error) {
	return func() error { return nil }, nil
}

func (m *fakeMirror) List(context.Context) (Copies, error) {
	m.note("list")
	return m.copies, nil
}

func (m *fakeMirror) Save(_ context.Context, c Copy) (Copied, error) {
	m.note("save %s on %q", c.Name, c.Base)
	return m.made, m.saveErr
}

func (m *fakeMirror) Delete(_ context.Context, names []string) ([]string, error) {
	m.note("delete %s", strings.Join(names, " "))
	return names, nil
}

func (m *fakeMirror) Link(_ context.Context, name, target string) error {
	m.note("link %s %s", name, target)
	return nil
}

type writeOnlyMirror struct{ *fakeMirror }

func (writeOnlyMirror) WriteOnly() {}

func kept(days ...uint64) []Kept {
	var all []Kept
	for _, d := range days {
		all = append(all, Kept{Name: day(d), Complete: true})
	}
	return all
}

// copyJobOf is a job on the tenth day that keeps two backups.
func copyJobOf(m Mirror, changes ...func(*CopyJob)) CopyJob {
	job := CopyJob{Tree: fakeTree{}, Mirrors: []Mirror{m}, Keep: retention.Policy{Last: 2}, Settings: Settings{
		Log: slog.New(slog.DiscardHandler), Progress: progress.Silent(), Now: func() time.Time { return dayTime(10) }}}
	for _, c := range changes {
		c(&job)
	}
	return job
}

func dayTime(n uint64) time.Time {
	t, _ := Naming{}.Time(day(n))
	return t
}

func newMirror(backups ...Kept) *fakeMirror {
	return &fakeMirror{diary: new(diary), copies: Copies{Backups: backups}}
}

func runCopy(t testing.TB, job CopyJob) *Report {
	t.Helper()
	report, err := RunCopy(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestACopyBuildsOnTheNewestBackupAndPrunesTheOldest(t *testing.T) {
	m := newMirror(kept(1, 2, 3)...)
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", `save 10 on "3"`, "link .latest 10", "delete 1 2")
	if report.Outcome() != Done || !report.Copy {
		t.Errorf("outcome %d of %+v", report.Outcome(), report)
	}
}

func TestACopyBuildsOnTheBackupThatWasFinishedLastWhateverItsDate(t *testing.T) {
	m := newMirror(kept(20, 2, 3)...)
	m.copies.Backups[2].Complete = false
	m.made.Incomplete = errSome
	runCopy(t, copyJobOf(m, func(j *CopyJob) { j.Keep.Last = 1 }))
	m.want(t, "open", "list", `save 10 on "3"`, "link .latest 10", "delete 3")
}

func TestNothingIsPrunedAfterACopyThatFailed(t *testing.T) {
	m := newMirror(kept(1, 2, 3)...)
	m.saveErr = errSome
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", `save 10 on "3"`)
	if report.Outcome() != Failed || len(report.AllFailures()) != 1 {
		t.Errorf("outcome %d, failures %v", report.Outcome(), report.AllFailures())
	}
}

func TestNoMirrorIsTouchedForABadSource(t *testing.T) {
	m := newMirror(kept(1)...)
	_, err := RunCopy(t.Context(), copyJobOf(m, func(j *CopyJob) { j.Tree = fakeTree{errSome} }))
	if !errors.Is(err, errSome) {
		t.Errorf("error: %v", err)
	}
	m.want(t)
}

func TestIncompleteCopiesNeverPushOutTheNewestCompleteOne(t *testing.T) {
	m := newMirror(kept(1, 2)...)
	for d := uint64(3); d <= 6; d++ {
		m.copies.Backups = append(m.copies.Backups, Kept{Name: day(d)})
	}
	m.made.Incomplete = errSome
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", `save 10 on "6"`, "link .latest 10",
		"delete 1 3 4 5")
	if report.Outcome() != Partly || !errors.Is(report.AllFailures()[0].Err, errSome) {
		t.Errorf("outcome %d, failures %v", report.Outcome(), report.AllFailures())
	}
}

func TestBackupsOfOthersAreNeitherDeletedNorCounted(t *testing.T) {
	m := newMirror(kept(1, 2, 3)...)
	m.copies.Backups[0].Foreign = true
	m.copies.Backups = append(m.copies.Backups, Kept{Name: "root-" + day(4), Complete: true})
	report := runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", `save 10 on "3"`, "link .latest 10", "delete 2")
	if v := report.Destinations[0].Verdicts[0]; v.Name != day(1) || !v.Keep {
		t.Errorf("verdict on another source's backup: %v", v)
	}
}

func TestADryRunOfACopyChangesNothing(t *testing.T) {
	m := newMirror(kept(1, 2, 3)...)
	dry := func(j *CopyJob) { j.DryRun = true }
	report := runCopy(t, copyJobOf(m, dry))
	m.want(t, "open", "list", `save 10 on "3"`)
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
	m := newMirror(kept(9, 10)...)
	m.copies.Taken = []string{Naming{}.Name(dayTime(10).Add(time.Second))}
	now := dayTime(10)
	clock := func(j *CopyJob) {
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
	for _, automatic := range []bool{true, false} {
		m := newMirror()
		m.copies.Taken = []string{day(1), day(2)}
		report := runCopy(t, copyJobOf(m, func(j *CopyJob) { j.Automatic = automatic }))
		if failed := report.Outcome() == Failed; failed != automatic {
			t.Errorf("automatic %t: outcome %d, failures %v", automatic, report.Outcome(), report.AllFailures())
		}
	}
}

func TestAMirrorThatNobodyCanListIsOnlySavedTo(t *testing.T) {
	m := newMirror(kept(1, 2, 3)...)
	report := runCopy(t, copyJobOf(writeOnlyMirror{m}))
	m.want(t, "open", `save 10 on ""`)
	if !report.Destinations[0].Transfers[0].Stored {
		t.Error("it counts as verified")
	}
}

func TestWhatIsSentOnIsKeptForTheNextIncrement(t *testing.T) {
	m := newMirror(kept(1, 2, 3)...)
	m.copies.Ledger = ledger(t, `{"`+day(1)+`": {"parent_locks": ["/archive"]}}`)
	runCopy(t, copyJobOf(m))
	m.want(t, "open", "list", `save 10 on "3"`, "link .latest 10", "delete 2")

	m = newMirror(kept(1, 2, 3)...)
	m.copies.NoPrune = errSome
	if report := runCopy(t, copyJobOf(m)); report.Outcome() != Partly || len(report.Destinations[0].Transfers) != 1 {
		t.Errorf("outcome %d of %+v", report.Outcome(), report)
	}
	m.want(t, "open", "list", `save 10 on "3"`, "link .latest 10")
}
