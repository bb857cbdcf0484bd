package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

var check = btrfstest.Check

func add(t testing.TB, h History, source string) {
	t.Helper()
	check(t, h.Add(t.Context(), Run{Source: source}))
}

// sources gives the sources of the runs in a history, in their order, and how many lines are no runs.
func sources(t testing.TB, h History) (all []string, damaged int) {
	t.Helper()
	content, err := os.ReadFile(h.path())
	check(t, err)
	for line := range strings.Lines(string(content)) {
		var run struct{ Source string }
		if json.Unmarshal([]byte(line), &run) != nil || !strings.HasSuffix(line, "\n") {
			damaged++
			continue
		}
		all = append(all, run.Source)
	}
	return all, damaged
}

func newHistory(t testing.TB) History {
	return History{Dir: filepath.Join(t.TempDir(), "state"), Limit: DefaultLimit}
}

func TestARunIsALineOfJSONThatOnlyItsOwnerReads(t *testing.T) {
	h := newHistory(t)
	add(t, h, "/home")
	add(t, h, "/two\nlines")
	if all, damaged := sources(t, h); damaged > 0 || len(all) != 2 || all[1] != "/two\nlines" {
		t.Errorf("runs of %q, %d lines damaged", all, damaged)
	}
	for path, want := range map[string]os.FileMode{h.Dir: 0o700 | os.ModeDir, h.path(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestALineThatWasCutOffHarmsNoOther(t *testing.T) {
	h := newHistory(t)
	add(t, h, "/1")
	add(t, h, "/2")
	info, err := os.Stat(h.path())
	check(t, err)
	check(t, os.Truncate(h.path(), info.Size()-7))
	add(t, h, "/3")
	if all, damaged := sources(t, h); damaged != 1 || fmt.Sprint(all) != "[/1 /3]" {
		t.Errorf("runs of %q, %d lines damaged", all, damaged)
	}
}

func TestTheOlderHalfGoesWhenTheFileIsFull(t *testing.T) {
	h := newHistory(t)
	h.Limit = 4000
	const runs = 300
	for i := range runs {
		add(t, h, fmt.Sprint(i))
		info, err := os.Stat(h.path())
		check(t, err)
		if info.Size() > h.Limit {
			t.Fatalf("%d bytes after %d runs", info.Size(), i)
		}
	}
	all, damaged := sources(t, h)
	for i, source := range all {
		if source != fmt.Sprint(runs-len(all)+i) {
			t.Fatalf("run %d of %d is of %s", i, len(all), source)
		}
	}
	if damaged > 0 || len(all) < 10 {
		t.Errorf("%d runs, %d lines damaged", len(all), damaged)
	}
	check(t, os.Truncate(h.path(), h.Limit-1)) // with a last line that is cut off
	add(t, h, "last")
	if all, damaged := sources(t, h); damaged != 1 || all[len(all)-1] != "last" {
		t.Errorf("runs of %q, %d lines damaged", all, damaged)
	}
}

func TestRunsAtTheSameTimeAreAllRemembered(t *testing.T) {
	h := newHistory(t)
	h.Limit = 10_000 // is reached meanwhile
	const writers, runs = 2, 100
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range runs {
				if err := h.Add(context.Background(), Run{Source: fmt.Sprintf("%d.%d", w, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	all, damaged := sources(t, h)
	next := map[string]int{}
	for _, source := range all {
		writer, number, _ := strings.Cut(source, ".")
		if want, ok := next[writer]; ok && number != fmt.Sprint(want) {
			t.Errorf("%s follows upon %s.%d", source, writer, want-1)
		}
		var n int
		fmt.Sscan(number, &n)
		next[writer] = n + 1
	}
	if damaged > 0 || len(next) > writers {
		t.Errorf("%d lines damaged in %q", damaged, all)
	}
}

func TestAHistoryThatCannotBeWrittenIsAnErrorInTime(t *testing.T) {
	h := newHistory(t)
	add(t, h, "/home")
	dir := btrfstest.Open(t, h.Dir)
	held, err := lock.Acquire(t.Context(), dir, nil)
	check(t, err)
	defer held.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Add(ctx, Run{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the lock is held: %v", err)
	}
	h.Dir = h.path()
	if err := h.Add(t.Context(), Run{}); err == nil {
		t.Error("a file is no directory")
	}
}

func TestTheHistoryTellsWhatWasSavedAndWhatFailed(t *testing.T) {
	failure := func(text string) engine.Failure { return engine.Failure{Err: errors.New(text)} }
	broken, unread := failure("broken"), failure("unreadable")
	r := &engine.Report{Source: "/home", Snapshot: "3", Destinations: []engine.DestinationReport{
		{Destination: "/usb", Transfers: []engine.TransferReport{{Snapshot: "1", Bytes: 5}, {Snapshot: "2", Bytes: 7, Incomplete: &unread}}},
		{Destination: "nas", Transfers: []engine.TransferReport{{Snapshot: "1", Bytes: 9, Failure: &broken}}},
	}}
	for range 30 {
		r.Destinations[1].Failures = append(r.Destinations[1].Failures, failure("more"))
	}
	run := Summarize(Result{Report: r, Outcome: engine.Partly, Status: 3})
	usb, nas := run.Destinations[0], run.Destinations[1]
	if run.Outcome != engine.Partly || run.Status != 3 || run.Source != "/home" || run.Snapshot != "3" {
		t.Errorf("%+v", run)
	}
	if fmt.Sprint(usb.Saved) != "[1 2]" || usb.Bytes != 12 || len(usb.Failures) != 1 {
		t.Errorf("%+v", usb)
	}
	if len(nas.Saved) > 0 || len(nas.Failures) != 10 || nas.Failures[0] != broken {
		t.Errorf("%+v", nas)
	}
	run.Duration = 4200 * time.Millisecond
	if want := "partly done, status 3, 4.2 s; /usb: saved 1 2, 12 B, failed: unreadable; nas: failed: broken (and 9 more)"; run.Line() != want {
		t.Errorf("in a line:\n%s\nwant\n%s", run.Line(), want)
	}
}

func TestTheLineOfARunTellsWhatWasDeletedAndWhyItFailed(t *testing.T) {
	run := Run{Outcome: engine.Done, Destinations: []Destination{{Destination: "/usb", Saved: []string{"3"}, Bytes: 2 << 20, Deleted: []string{"1", "2"}},
		{Destination: "nas"}, {Destination: "/away", Absent: "no disk"}}}
	if want := "done, status 0; /usb: saved 3, 2.0 MiB, deleted 2; /away: not served: no disk"; run.Line() != want {
		t.Errorf("%s, want %s", run.Line(), want)
	}
	run = Run{Outcome: engine.Failed, Status: 1, Failures: []engine.Failure{{Err: errors.New("no source")}}}
	if want := "failed, status 1; failed: no source"; run.Line() != want {
		t.Errorf("%s, want %s", run.Line(), want)
	}
	run = Summarize(Result{Report: &engine.Report{Skipped: "hook net: no network"}, Outcome: engine.Done})
	if want := "done, status 0; skipped: hook net: no network"; run.Line() != want {
		t.Errorf("%s, want %s", run.Line(), want)
	}
}

func TestAnInterruptionTellsWhatIsKeptAndHowToGoOn(t *testing.T) {
	failure := engine.Failure{Err: errors.New("ended")}
	report := func(copy bool, snapshot string, d ...engine.DestinationReport) *engine.Report {
		return &engine.Report{Copy: copy, Snapshot: snapshot, Destinations: d}
	}
	saved := engine.TransferReport{Snapshot: "1"}
	kept := engine.TransferReport{Snapshot: "2", Bytes: 36 << 20, Kept: true, Failure: &failure}
	broken := engine.TransferReport{Snapshot: "2", Failure: &failure}
	stored := engine.TransferReport{Snapshot: "2", Bytes: 36 << 20, Kept: true, KeptFor: 7 * 24 * time.Hour, Failure: &failure}
	store := engine.DestinationReport{Destination: "store:/s", Transfers: []engine.TransferReport{stored}}
	nas := engine.DestinationReport{Destination: "ssh://nas/b", Transfers: []engine.TransferReport{saved, kept}}
	usb := engine.DestinationReport{Destination: "/usb", Transfers: []engine.TransferReport{broken}}
	away := engine.DestinationReport{Destination: "/away", Failures: []engine.Failure{failure}}
	for _, test := range []struct {
		r                 *engine.Report
		happened, forward string
	}{
		{report(false, "2", nas, usb, away), "snapshot 2 is kept, one backup was finished",
			"the same command goes on there: ssh://nas/b keeps 36 MiB for 1 h; it begins anew at /usb, /away"},
		{report(false, "2", store), "snapshot 2 is kept, no backup was finished", "the same command goes on there: store:/s keeps what it has for 7 days"},
		{report(true, "", nas), "one backup was finished", "the same command goes on there: ssh://nas/b keeps 36 MiB"},
		{report(false, "2", usb), "snapshot 2 is kept, no backup was finished", "the next run saves what is missing"},
		{report(false, "", usb), "no backup was finished", ""},
	} {
		happened, forward := Interruption(test.r, time.Hour)
		if happened != test.happened || forward != test.forward {
			t.Errorf("%q, %q, want %q, %q", happened, forward, test.happened, test.forward)
		}
	}
}

func TestFailuresInARowAreCounted(t *testing.T) {
	ago := func(n int) time.Time { return time.Date(2026, 6, 10-n, 12, 0, 0, 0, time.UTC) }
	run := func(n int, job string, outcome engine.Outcome) Run {
		return Run{Time: ago(n), Job: job, Outcome: outcome}
	}
	for _, test := range []struct {
		name     string
		runs     []Run
		last     time.Time
		failures int
	}{
		{name: "none"},
		{"a success", []Run{run(1, "home", engine.Done)}, time.Time{}, 0},
		{"two, then a success", []Run{run(1, "home", engine.Failed), run(2, "home", engine.Partly), run(3, "home", engine.Done), run(4, "home", engine.Failed)}, ago(1), 2},
		{"of another job", []Run{run(1, "etc", engine.Failed)}, time.Time{}, 0},
		{"a success of another job between", []Run{run(1, "home", engine.Failed), run(2, "etc", engine.Done), run(3, "home", engine.Failed)}, ago(1), 2},
		{"ended by a signal and kept out do not count", []Run{run(1, "home", engine.Interrupted), run(2, "home", engine.Busy), run(3, "home", engine.Failed)}, ago(3), 1},
	} {
		failures, last := FailuresOf("home", test.runs), time.Time{}
		if len(failures) > 0 {
			last = failures[0]
		}
		if !last.Equal(test.last) || len(failures) != test.failures {
			t.Errorf("%s: %v", test.name, failures)
		}
	}
}
