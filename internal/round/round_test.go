package round

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/notify"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

var (
	noon    = time.Date(2026, 6, 10, 12, 0, 0, 0, time.UTC)
	errSome = errors.New("it failed")
)

// fake is a round whose jobs do nothing, and write a diary.
type fake struct {
	testing.TB
	*Round
	now   time.Time
	diary string
	log   strings.Builder
	does  map[string]func(*Entry) error
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{TB: t, now: noon, does: make(map[string]func(*Entry) error)}
	log := slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.Round = &Round{Config: &config.Config{}, Dir: t.TempDir(), Env: job.Environment{Log: log, State: t.TempDir(), Now: func() time.Time { return f.now }}}
	f.diary = filepath.Join(f.Dir, "diary")
	f.Disks = disk.Options{Log: log, State: f.Dir}
	f.Notify = notify.Settings{On: []string{"start"}, Command: []string{"sh", "-c", `echo "begin $(echo $BTRFS_BACKUP_JOBS | tr ' ' +)" >>` + f.diary}}
	f.Do = func(_ context.Context, e *Entry) (report.Result, error) {
		f.note(e.Name)
		if do := f.does[e.Name]; do != nil {
			return report.Result{}, do(e)
		}
		return report.Result{Report: &engine.Report{}}, nil
	}
	f.End = func(context.Context) {}
	f.Record = func(_ context.Context, e *Entry) { f.note("record " + e.Name + " " + string(e.Outcome())) }
	return f
}

func (f *fake) note(line string) {
	file, err := os.OpenFile(f.diary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	btrfstest.Check(f, err)
	defer file.Close()
	_, err = file.WriteString(line + "\n")
	btrfstest.Check(f, err)
}

// hook gives one that writes into the diary, and whose before ends with the status.
func (f *fake) hook(name string, status int) hook.Hook {
	return hook.Hook{Name: name, Before: []string{"sh", "-c", fmt.Sprintf("echo +%s >>%s; exit %d", name, f.diary, status)},
		After: []string{"sh", "-c", fmt.Sprintf("echo -%s $BTRFS_BACKUP_STATUS >>%s", name, f.diary)}}
}

// add adds a daily job with destinations.
func (f *fake) add(name string, destinations ...string) *config.Job {
	f.Helper()
	j := &config.Job{Name: name, Spec: job.Default(), Auto: true, OnBattery: true, Metered: true}
	j.Every, _ = due.Parse("daily", nil)
	j.Spec.Source = job.Local{Path: "/nowhere/" + name}
	places, complaints := job.ParsePlaces(destinations)
	btrfstest.Check(f, complaints.Err())
	j.Spec.Destinations = places
	f.Jobs = append(f.Jobs, j)
	return j
}

func (f *fake) run(want ...string) (map[string]*Entry, error) {
	f.Helper()
	entries, err := f.Run(f.Context())
	byName := make(map[string]*Entry)
	for _, e := range entries {
		byName[e.Name] = e
	}
	content, _ := os.ReadFile(f.diary)
	if got := strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", ", "); got != strings.Join(want, ", ") {
		f.Errorf("did: %s\nwant: %s\n%s", got, strings.Join(want, ", "), f.log.String())
	}
	_ = os.Remove(f.diary)
	return byName, err
}

func (f *fake) names(entries []*Entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func newEntry(j *config.Job) *Entry { return &Entry{Job: j, Spec: j.Spec} }

func TestJobsAreChosenByNameTagAndDisk(t *testing.T) {
	f := newFake(t)
	f.Config.Disks = []disk.Disk{{Name: "usb", Mount: "/mnt/usb"}, {Name: "src", Mount: "/nowhere/etc"}}
	f.add("home", "/mnt/usb/home").Tags = []string{"big", "daily"}
	f.add("etc", "/mnt/other")
	f.add("hand", "/mnt/usb/hand").Auto = false
	for _, test := range []struct {
		names     []string
		tag, disk string
		want      string
	}{
		{want: "home etc"},
		{names: []string{"hand"}, want: "hand"},
		{names: []string{"etc", "home"}, want: "home etc"},
		{tag: "big", want: "home"},
		{tag: "small"},
		{disk: "usb", want: "home"},
		{disk: "src", want: "etc"},
		{disk: "none"},
		{names: []string{"etc"}, disk: "usb"},
	} {
		f.Names, f.Tag, f.Disk = test.names, test.tag, test.disk
		if got := strings.Join(f.names(f.choose()), " "); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

// days gives the noon of a day before the present one.
func days(ago int) time.Time { return noon.AddDate(0, 0, -ago) }

func TestWhatIsDueIsDecidedForEachDestination(t *testing.T) {
	at := func(newest ...time.Time) (places []standing.Place) {
		for i, n := range newest {
			places = append(places, standing.Place{Destination: fmt.Sprintf("/d%d", i), Newest: n})
		}
		return places
	}
	never, now := time.Time{}, noon.Add(time.Hour)
	for _, test := range []struct {
		name       string
		found      standing.Job
		isSet      bool
		served     []bool
		skipped    string
		noSnapshot bool
	}{
		{name: "none has one", found: standing.Job{History: true, Places: at(never, never)}, served: []bool{true, true}},
		{name: "both are of yesterday", found: standing.Job{History: true, Snapshot: days(1), Places: at(days(1), days(1))}, served: []bool{true, true}},
		{name: "both are of today", found: standing.Job{History: true, Snapshot: days(0), Places: at(days(0), days(0))}, served: []bool{false, false},
			skipped: "not due until 2026-06-11 00:00"},
		{name: "one lacks that of today", found: standing.Job{History: true, Snapshot: days(0), Places: at(days(0), days(1))}, served: []bool{false, true}, noSnapshot: true},
		{name: "one lacks that of today, of a directory", found: standing.Job{Places: at(days(0), days(1))}, served: []bool{false, true}},
		{name: "one lacks that of today, of a set", isSet: true, found: standing.Job{History: true, Snapshot: days(0), Places: at(days(0), days(1))}, served: []bool{false, true}},
		{name: "the source has none of today", found: standing.Job{History: true, Snapshot: days(1), Places: at(days(0), days(1))}, served: []bool{false, true}},
		{name: "nothing changed", found: standing.Job{History: true, Unchanged: true, Snapshot: days(5), Places: []standing.Place{
			{Destination: "/d0", Newest: days(5), Current: true}, {Destination: "/d1", Newest: days(5), Current: true}}},
			served: []bool{false, false}, skipped: "nothing changed since 2026-06-05 12:00"},
		{name: "nothing changed, one lacks it", found: standing.Job{History: true, Unchanged: true, Snapshot: days(5), Places: []standing.Place{
			{Destination: "/d0", Newest: days(5), Current: true}, {Destination: "/d1", Newest: days(6)}}}, served: []bool{false, true}, noSnapshot: true},
		{name: "a snapshot alone, of yesterday", found: standing.Job{History: true, Snapshot: days(1)}},
		{name: "a snapshot alone, of today", found: standing.Job{History: true, Snapshot: days(0)}, skipped: "not due until 2026-06-11 00:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			var destinations []string
			for i := range test.found.Places {
				destinations = append(destinations, fmt.Sprintf("/d%d", i))
			}
			j := f.add("home", destinations...)
			if test.isSet {
				j.Spec.Members = []job.Member{{Name: "a", Source: j.Spec.Source}}
			}
			e := newEntry(j)
			e.Standing = &test.found
			e.decide(now)
			if e.Skipped != test.skipped || e.Spec.Subvolume.NoSnapshot != test.noSnapshot {
				t.Errorf("skipped %q, no snapshot %v", e.Skipped, e.Spec.Subvolume.NoSnapshot)
			}
			for i, p := range e.Spec.Destinations {
				if (e.Spec.Absent(p) != "") == test.served[i] {
					t.Errorf("%s is left out: %q", p, e.Spec.Absent(p))
				}
			}
			if len(j.Spec.To) > 0 || j.Spec.Subvolume.NoSnapshot {
				t.Error("the configuration was changed")
			}
		})
	}
}

func TestWhatFailedIsTriedAgainLaterUnlessItIsNamed(t *testing.T) {
	for _, test := range []struct {
		name    string
		began   time.Time
		names   []string
		skipped string
	}{
		{"too soon", noon.Add(-4 * time.Minute), nil, "failed once; tried again at 2026-06-10 12:01, or now: btrfs-backup run home"},
		{"it is time", noon.Add(-5 * time.Minute), nil, ""},
		{"named", noon.Add(-4 * time.Minute), []string{"home"}, ""},
		{"in the future", noon.Add(time.Minute), nil, ""},
	} {
		f := newFake(t)
		e := newEntry(f.add("home"))
		f.Names, f.Runs = test.names, []report.Run{{Time: test.began, Job: "home", Outcome: engine.Failed}}
		if got := f.obstacle(t.Context(), e); got != test.skipped || strings.Contains(f.log.String(), "level=INFO") != (got != "") {
			t.Errorf("%s: %q\n%s", test.name, got, f.log.String())
		}
	}
}

func TestFailuresOfANamedJobMakeTheWaitNoLonger(t *testing.T) {
	f := newFake(t)
	e := newEntry(f.add("home"))
	for _, ago := range []time.Duration{1, 2, 3, 9} { // the last three are within the wait after the first
		f.Runs = append(f.Runs, report.Run{Time: noon.Add(-ago * time.Minute), Job: "home", Outcome: engine.Failed})
	}
	const want = "failed 4 times; tried again at 2026-06-10 12:14, or now: btrfs-backup run home"
	if got := f.obstacle(t.Context(), e); got != want {
		t.Errorf("after one that is due: %q", got)
	}
	f.Runs = f.Runs[:3]
	if got := f.obstacle(t.Context(), e); got != "failed 3 times; tried again at 2026-06-10 12:04, or now: btrfs-backup run home" {
		t.Errorf("all soon after each other: %q", got)
	}
}

func TestWhatIsOffLineIsSkippedAndAges(t *testing.T) {
	f := newFake(t)
	j := f.add("home", "/d0", "/d1")
	j.Online = "path:" + filepath.Join(f.Dir, "away")
	f.add("changes", "/d0").Spec.Subvolume.OnlyChanged = true
	f.Jobs[1].Online = j.Online
	saved := func(ago int, job, destination string) report.Run {
		return report.Run{Time: days(ago), Job: job, Outcome: engine.Done, Destinations: []report.Destination{{Destination: destination, Saved: []string{"x"}}}}
	}
	f.Runs = []report.Run{saved(1, "home", "/d0"), saved(9, "home", "/d1"), saved(9, "changes", "/d0")}
	entries, err := f.run()
	if err != nil || !strings.Contains(entries["home"].Skipped, "away") {
		t.Fatalf("%v, %v", entries["home"], err)
	}
	if got := fmt.Sprint(Stale([]*Entry{entries["home"], entries["changes"]})); got != "map[home:the newest backup at /d1 is of 2026-06-01 12:00]" {
		t.Errorf("stale: %s", got)
	}
	btrfstest.Check(t, os.Mkdir(filepath.Join(f.Dir, "away"), 0o700))
	f.Names = []string{"home"}
	f.run("begin home", "home", "record home done")
}

func TestAnOnlineCheckThatCannotBeMadeIsNoObstacle(t *testing.T) {
	f := newFake(t)
	e := newEntry(f.add("home"))
	e.Online = "morse:nas"
	if got := f.obstacle(t.Context(), e); got != "" || !strings.Contains(f.log.String(), "online = ") {
		t.Errorf("%q, %s", got, f.log.String())
	}
	f.log.Reset()
	if got := f.obstacle(t.Context(), newEntry(f.add("etc"))); got != "" || f.log.Len() > 0 {
		t.Errorf("without a check: %q, %s", got, f.log.String())
	}
}

func TestARoundAsksWhatIsDueUnlessJobsAreNamed(t *testing.T) {
	f := newFake(t)
	usb := absent(t, "usb", disk.Skip)
	f.Config.Disks = []disk.Disk{usb}
	f.add("home", usb.Mount+"/home")
	f.Runs = []report.Run{{Time: days(0), Job: "home", Outcome: engine.Done, Destinations: []report.Destination{{Destination: usb.Mount + "/home", Saved: []string{"x"}}}}}
	if entries, err := f.run(); err != nil || entries["home"].Skipped != "not due until 2026-06-11 00:00" {
		t.Errorf("%v, %q", err, entries["home"].Skipped)
	}
	f.Names = []string{"home"}
	if entries, err := f.run("begin home", "home", "record home done"); err != nil || entries["home"].Standing != nil {
		t.Errorf("%v, %+v", err, entries["home"].Standing)
	}
}

// absent gives a disk that is nowhere.
func absent(t testing.TB, name, whenAbsent string) disk.Disk {
	return disk.Disk{Name: name, Mount: filepath.Join(t.TempDir(), name), UUID: "01234567-89ab-cdef-0123-456789abcdef", WhenAbsent: whenAbsent}
}

func TestAnAbsentDiskTakesOnlyWhatIsOnIt(t *testing.T) {
	for whenAbsent, failed := range map[string]bool{disk.Skip: false, disk.Fail: true, "": true} {
		f := newFake(t)
		usb := absent(t, "usb", whenAbsent)
		f.Config.Disks = []disk.Disk{usb}
		f.Names = []string{"both", "only", "from", "none"}
		f.add("both", "/d0", usb.Mount+"/both")
		f.add("only", usb.Mount+"/only")
		f.add("from", "/d0").Spec.Source = job.Local{Path: usb.Mount + "/from"}
		f.add("none", "/d0")
		f.Hooks = []hook.Hook{f.hook("all", 0)}
		want := []string{"+all", "begin both+only+none", "both", "record both done", "only", "record only done", "none", "record none done", "-all ok"}
		if failed {
			want = []string{"+all", "begin both+only+none", "both", "record both partly", "only", "record only partly", "record from failed", "none", "record none done", "-all failed"}
		}
		slices.Sort(want[:2])
		want[0], want[1] = "begin both+only+none", "+all"
		entries, err := f.run(want...)
		if err != nil {
			t.Error(err)
		}
		const missing = "disk usb is absent: there is no device UUID=01234567-89ab-cdef-0123-456789abcdef"
		both := entries["both"]
		if to := both.Spec.To; to["/d0"].Absent != "" || to[usb.Mount+"/both"].Absent != missing || entries["from"].Skipped != missing {
			t.Errorf("left out: %+v, %q", to, entries["from"].Skipped)
		}
		if (both.Err() != nil) != failed || (entries["from"].Err() != nil) != failed || entries["none"].Err() != nil {
			t.Errorf("when-absent = %q: %v, %v", whenAbsent, both.Err(), entries["from"].Err())
		}
	}
}

func TestNothingIsStoppedForAJobWhoseDiskIsAbsent(t *testing.T) {
	for whenAbsent, recorded := range map[string][]string{disk.Skip: nil, disk.Fail: {"record home failed"}} {
		f := newFake(t)
		usb := absent(t, "usb", whenAbsent)
		f.Config.Disks = []disk.Disk{usb}
		f.add("home", "/d0").Spec.Source = job.Local{Path: usb.Mount + "/home"}
		f.Names = []string{"home"}
		f.Hooks = []hook.Hook{f.hook("all", 0)}
		f.run(recorded...)
	}
}

func TestADestinationAloneOnAnAbsentDiskIsSkippedIfThereIsASnapshot(t *testing.T) {
	f := newFake(t)
	usb := absent(t, "usb", disk.Skip)
	f.Config.Disks = []disk.Disk{usb}
	for _, test := range []struct {
		found      *standing.Job
		noSnapshot bool
		skipped    bool
	}{
		{&standing.Job{History: true}, true, true},
		{&standing.Job{History: true}, false, false}, // the snapshot is taken
		{&standing.Job{}, false, true},               // a directory has none
		{nil, false, false},                          // it is named: the job finds out
	} {
		e := newEntry(f.add("home", usb.Mount+"/home"))
		e.Standing, e.Spec.Subvolume.NoSnapshot = test.found, test.noSnapshot
		f.openDisks(t.Context(), []*Entry{e})
		if (e.Skipped != "") != test.skipped {
			t.Errorf("%+v: skipped %q", test, e.Skipped)
		}
	}
}

func TestADryRunOpensNoDisk(t *testing.T) {
	f := newFake(t)
	usb := absent(t, "usb", disk.Fail)
	f.Config.Disks, f.DryRun, f.Names = []disk.Disk{usb}, true, []string{"home", "from"}
	f.Hooks = []hook.Hook{f.hook("all", 0)}
	f.add("home", "/d0", usb.Mount+"/home")
	f.add("from", "/d0").Spec.Source = job.Local{Path: usb.Mount + "/from"}
	entries, err := f.run("home")
	const why = "disk usb is closed: what is on it was not looked at"
	if to := entries["home"].Spec.To; err != nil || to[usb.Mount+"/home"].Absent != why || to["/d0"].Absent != "" || entries["from"].Skipped != why {
		t.Errorf("%v, %+v, %q", err, to, entries["from"].Skipped)
	}
}

func TestAJobThatFailsStopsNoOtherUnlessItsHookIsCritical(t *testing.T) {
	for _, critical := range []bool{false, true} {
		f := newFake(t)
		f.Names = []string{"a", "b", "c"}
		f.add("a")
		h := f.hook("db", 1)
		h.Critical = critical
		f.add("b").Hooks = []hook.Hook{h}
		f.add("c")
		f.Hooks = []hook.Hook{f.hook("all", 0)}
		f.does["a"] = func(*Entry) error { return errSome }
		want := []string{"begin a+b+c", "+all", "a", "record a failed", "+db", "record b failed", "c", "record c done", "-all failed"}
		if critical {
			want = []string{"begin a+b+c", "+all", "a", "record a failed", "+db", "record b failed", "-all failed"}
		}
		entries, err := f.run(want...)
		if err != nil || (entries["c"].Skipped != "") != critical || !errors.Is(entries["a"].Err(), errSome) {
			t.Errorf("%v, %q", err, entries["c"].Skipped)
		}
	}
}

func TestAHookThatSkipsIsNoFailure(t *testing.T) {
	f := newFake(t)
	f.Names = []string{"a", "b"}
	f.add("a").Hooks = []hook.Hook{f.hook("db", 75)}
	f.add("b")
	entries, err := f.run("begin a+b", "+db", "b", "record b done")
	if err != nil || entries["a"].Skipped == "" || Outcome([]*Entry{entries["a"], entries["b"]}, nil) != engine.Done {
		t.Errorf("%v, %q", err, entries["a"].Skipped)
	}
	f.Hooks = []hook.Hook{f.hook("all", 75)}
	entries, err = f.run("begin a+b", "+all")
	if err != nil || entries["b"].Skipped == "" {
		t.Errorf("%v, %q", err, entries["b"].Skipped)
	}
	f.Hooks = []hook.Hook{f.hook("all", 1)}
	if entries, err = f.run("begin a+b", "+all"); err == nil || entries["b"].Skipped != "not run, since a hook failed" {
		t.Errorf("%v, %q", err, entries["b"].Skipped)
	}
}

func TestTheEndOfTheContextEndsTheRoundAfterItsHooks(t *testing.T) {
	f := newFake(t)
	f.Names = []string{"a", "b"}
	f.add("a")
	f.add("b")
	f.Hooks = []hook.Hook{f.hook("all", 0)}
	ctx, cancel := context.WithCancelCause(t.Context())
	f.does["a"] = func(*Entry) error { cancel(errSome); return nil }
	entries, err := f.Run(ctx)
	if !errors.Is(err, errSome) || entries[1].Skipped != "not run: it failed" {
		t.Errorf("%v, %q", err, entries[1].Skipped)
	}
	content, _ := os.ReadFile(f.diary)
	if want := "begin a+b\n+all\na\nrecord a done\n-all failed\n"; string(content) != want {
		t.Errorf("did %q", content)
	}
}

func TestAJobRunsOnceAtATime(t *testing.T) {
	f := newFake(t)
	f.Names = []string{"a"}
	f.add("a")
	release, err := f.lock(t.Context(), "a")
	btrfstest.Check(t, err)
	entries, err := f.run("begin a")
	if err != nil || !lock.IsHeld(entries["a"].Err()) || entries["a"].Outcome() != engine.Busy {
		t.Errorf("%v, %v", err, entries["a"].Err())
	}
	if said := entries["a"].Err().Error(); strings.Count(said, "process") != 1 || hint.Of(entries["a"].Err()) == "" {
		t.Errorf("said %q", said)
	}
	release()
	f.run("begin a", "a", "record a done")
}

func TestOutcomeOfARound(t *testing.T) {
	busy := fmt.Errorf("locking: %w", &lock.HeldError{Dir: "/d"})
	entry := func(e *engine.Report, errs ...error) *Entry {
		return &Entry{Job: &config.Job{}, Result: report.Result{Report: e}, errs: errs}
	}
	failedReport := &engine.Report{Failures: []engine.Failure{{Err: errSome}}}
	for _, test := range []struct {
		name string
		*Entry
		want engine.Outcome
	}{
		{"done", entry(&engine.Report{}), engine.Done},
		{"an after failed", entry(&engine.Report{}, errSome), engine.Partly},
		{"nothing ran", entry(nil, errSome), engine.Failed},
		{"it failed, and an after", entry(failedReport, errSome), engine.Failed},
		{"it failed", entry(failedReport), engine.Failed},
		{"another runs it", entry(nil, busy), engine.Busy},
		{"another runs it, and more failed", entry(nil, busy, errSome), engine.Failed},
	} {
		if got := test.Outcome(); got != test.want {
			t.Errorf("%s: %s", test.name, got)
		}
	}
	done, failed, partly, waits := entry(&engine.Report{}), entry(failedReport), entry(&engine.Report{}, errSome), entry(nil, busy)
	skipped, skippedWithout := entry(nil), entry(nil, errSome)
	skipped.Skipped, skippedWithout.Skipped = "away", "away"
	for _, test := range []struct {
		name    string
		entries []*Entry
		around  error
		want    engine.Outcome
	}{
		{"nothing", nil, nil, engine.Done},
		{"done", []*Entry{done, skipped}, nil, engine.Done},
		{"one of two failed", []*Entry{done, failed}, nil, engine.Partly},
		{"all failed", []*Entry{failed, skipped}, nil, engine.Failed},
		{"one partly", []*Entry{partly}, nil, engine.Partly},
		{"its disk is absent and must not be", []*Entry{skippedWithout}, nil, engine.Failed},
		{"around", []*Entry{done}, errSome, engine.Partly},
		{"around alone", nil, errSome, engine.Failed},
		{"one is run by another", []*Entry{done, waits}, nil, engine.Busy},
		{"one is run by another, one failed", []*Entry{failed, waits}, nil, engine.Failed},
	} {
		if got := Outcome(test.entries, test.around); got != test.want {
			t.Errorf("%s: %s", test.name, got)
		}
	}
}

func TestWhatIsTooOldIsStaleUnlessTheRoundMadeANewOne(t *testing.T) {
	place := func(state standing.State) *standing.Job {
		return &standing.Job{Places: []standing.Place{{Destination: "/d", State: state, Newest: days(9)}}}
	}
	overdue := &standing.Job{Places: []standing.Place{{Destination: "/d", State: standing.Never, Overdue: days(9)}}}
	saved := func(d engine.DestinationReport) report.Result {
		d.Destination = "/d"
		return report.Result{Report: &engine.Report{Destinations: []engine.DestinationReport{d}}}
	}
	for _, test := range []struct {
		name  string
		found *standing.Job
		did   report.Result
		want  bool
	}{
		{"nobody looked", nil, report.Result{}, false},
		{"good", place(standing.Good), report.Result{}, false},
		{"away", place(standing.Away), report.Result{}, false},
		{"never, and not for long", place(standing.Never), report.Result{}, false},
		{"never", overdue, report.Result{}, true},
		{"never, now saved", overdue, saved(engine.DestinationReport{}), false},
		{"late", place(standing.Late), report.Result{}, true},
		{"bad", place(standing.Bad), report.Result{}, true},
		{"late, now saved", place(standing.Late), saved(engine.DestinationReport{}), false},
		{"late, failed again", place(standing.Late), saved(engine.DestinationReport{Failures: []engine.Failure{{Err: errSome}}}), true},
		{"late, its disk is absent", place(standing.Late), saved(engine.DestinationReport{Absent: "away"}), true},
	} {
		e := &Entry{Job: &config.Job{Name: "home"}, Standing: test.found, Result: test.did}
		if got := Stale([]*Entry{e}); (len(got) > 0) != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestWhatOthersRunIsTheirsToTell(t *testing.T) {
	f := newFake(t)
	f.Notify = notify.Settings{On: []string{"success"}, Command: []string{"sh", "-c", `echo "$BTRFS_BACKUP_SUBJECT" >>` + f.diary}}
	busy, done := newEntry(&config.Job{Name: "busy"}), newEntry(&config.Job{Name: "home"})
	busy.fail(&lock.HeldError{Dir: "/run/busy"})
	done.Result = report.Result{Report: &engine.Report{}}
	btrfstest.Check(t, f.Tell(t.Context(), []*Entry{busy}, report.Jobs{}))
	if _, err := os.Stat(f.diary); err == nil {
		t.Fatal("of a job that another run does, somebody was told")
	}
	btrfstest.Check(t, f.Tell(t.Context(), []*Entry{busy, done}, report.Jobs{}))
	if told, err := os.ReadFile(f.diary); err != nil || !strings.HasSuffix(string(told), "backup home: done\n") {
		t.Errorf("told: %q, %v", told, err)
	}
}
