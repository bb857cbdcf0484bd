package standing

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

var now = time.Date(2026, 11, 29, 3, 31, 0, 0, time.Local)

// example has a place in each state.
func example() []Job {
	const day = 24 * time.Hour
	place := func(destination string, age time.Duration, change ...func(*Place)) Place {
		free := uint64(2 << 30)
		p := Place{Destination: destination, Newest: now.Add(-age), Oldest: now.Add(-100 * day), Backups: 34, Free: &free, Asked: true, MaxAge: Seconds(2 * day)}
		if age == 0 {
			p.Newest, p.Oldest, p.Backups = time.Time{}, time.Time{}, 0
		}
		for _, c := range change {
			c(&p)
		}
		p.judge(now)
		return p
	}
	fails := func(p *Place) {
		*p = Place{Destination: p.Destination, Newest: p.Newest, MaxAge: p.MaxAge, Failure: &engine.Failure{Err: errors.New("no answer | or so")}}
	}
	away := func(p *Place) { fails(p); p.Failure, p.Away = nil, "its disk is away" }
	byLedger := func(p *Place) { fails(p); p.Failure = nil }
	last := report.Run{Time: now.Add(-2 * time.Hour), Outcome: engine.Partly, Status: 3, Duration: 1500 * time.Millisecond,
		Destinations: []report.Destination{{Destination: "nas", Bytes: 7}, {Destination: "usb", Bytes: 5}}}
	return []Job{
		{Name: "home", LastRun: &last, Skipped: 2, Places: []Place{
			place("/mnt/usb/home", 2*time.Hour),
			place("ssh://nas/backup/a-long-path/that-is-cut/home", 3*day),
			place("/mnt/other/home", 5*day, func(p *Place) { *p.Free = 0 }),
			place("/mnt/away/home", day, away),
			place("/mnt/away/late", 3*day, away),
		}},
		{Name: "system", Places: []Place{place("/mnt/usb/system", 0), place("ssh://down/b", day, fails), place("ssh://down/c", 0, fails), place("ssh://down/d", 3*day, fails),
			place("shell://store", day, byLedger)}},
		{Name: "etc", Places: []Place{place("", 2*time.Hour, func(p *Place) { p.Ahead, p.Warning, p.Free = 1, "dated in the future and not counted: 1", nil })}},
	}
}

func TestTheTableFits80Columns(t *testing.T) {
	var got strings.Builder
	btrfstest.Check(t, WriteTable(&got, example(), now, 80))
	want := `
JOB     DESTINATION       NEWEST            AGE   KEPT  FREE     STATE
home    /mnt/usb/home     2026-11-29 01:31  2 h   34    2.0 GiB  good
home    nas:/ba...t/home  2026-11-26 03:31  3 d   34    2.0 GiB  LATE (> 2 d)
home    /mnt/other/home   2026-11-24 03:31  5 d   34    0 B      BAD (> 4 d)
home    /mnt/away/home    2026-11-28 03:31  24 h  -     -        away
home    /mnt/away/late    2026-11-26 03:31  3 d   -     -        LATE, away
system  /mnt/usb/system   never             -     0     2.0 GiB  NEVER
system  down:/b           2026-11-28 03:31  24 h  -     -        NO ANSWER
system  down:/c           -                 -     -     -        NO ANSWER
system  down:/d           2026-11-26 03:31  3 d   -     -        LATE, no answer
system  shell://store     2026-11-28 03:31  24 h  -     -        on record
etc     (snapshots)       2026-11-29 01:31  2 h   34    -        good
etc: (snapshots): dated in the future and not counted: 1
last run: 2026-11-29 01:31, home: partly done, status 3, 1.5 s
NEVER: ` + "`btrfs-backup run`" + ` makes the first backup
`
	if "\n"+got.String() != want {
		t.Errorf("%s", got.String())
	}
	var made strings.Builder
	if btrfstest.Check(t, WriteTable(&made, example()[:1], now, 80)); strings.Contains(made.String(), "NEVER") {
		t.Errorf("%s", made.String())
	}
	for line := range strings.Lines(got.String()) {
		if !strings.HasPrefix(line, "last run") && len(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

func TestNagiosIsToldTheWorstFirst(t *testing.T) {
	jobs := example()
	one := func(j, p int) []Job { return []Job{{Name: jobs[j].Name, Places: jobs[j].Places[p : p+1]}} }
	for _, test := range []struct {
		jobs   []Job
		status int
		want   string
	}{
		{one(0, 0), 0, "BACKUP OK - home at /mnt/usb/home: 2 hours old | age=7200s;172800;345600;0\n"},
		{one(0, 1), 1, "BACKUP WARNING - home at nas:/backup/a-long-path/that-is-cut/home: 3 days old | age=259200s;172800;345600;0\n"},
		{one(0, 2), 2, "BACKUP CRITICAL - home at /mnt/other/home: 5 days old | age=432000s;172800;345600;0\n"},
		{one(0, 3), 0, "BACKUP OK - home at /mnt/away/home: 24 hours old, by the record: its disk is away | age=86400s;172800;345600;0\n"},
		{one(0, 4), 1, "BACKUP WARNING - home at /mnt/away/late: 3 days old, by the record: its disk is away | age=259200s;172800;345600;0\n"},
		{one(1, 0), 2, "BACKUP CRITICAL - system at /mnt/usb/system: never | age=U;172800;345600;0\n"},
		{one(1, 1), 3, "BACKUP UNKNOWN - system at down:/b: 24 hours old, by the record: no answer / or so | age=86400s;172800;345600;0\n"},
		{one(1, 4), 3, "BACKUP UNKNOWN - system at shell://store: 24 hours old, by the record | age=86400s;172800;345600;0\n"},
		{nil, 3, "BACKUP UNKNOWN - no job | age=U\n"},
	} {
		var got strings.Builder
		status, err := WriteNagios(&got, test.jobs, now)
		if err != nil || status != test.status || got.String() != test.want {
			t.Errorf("status %d, %v: %swant %d: %s", status, err, got.String(), test.status, test.want)
		}
	}
	var got strings.Builder
	status, err := WriteNagios(&got, jobs, now)
	first, rest, _ := strings.Cut(got.String(), "\n")
	if err != nil || status != 2 || !strings.HasPrefix(first, "BACKUP CRITICAL - system at /mnt/usb/system: never |") ||
		strings.Count(rest, "\n") != 11 || strings.Contains(rest, "|") {
		t.Errorf("status %d, %v: %s", status, err, got.String())
	}
}

func TestANameMakesNoFiguresAndNoLineForNagios(t *testing.T) {
	jobs := example()[:1]
	jobs[0].Places = jobs[0].Places[:1]
	jobs[0].Places[0].Destination = "/mnt/a\n|x=1\x1b[2J"
	var got strings.Builder
	_, err := WriteNagios(&got, jobs, now)
	if want := "BACKUP OK - home at /mnt/a; /x=1\\x1b[2J: 2 hours old | age=7200s;172800;345600;0\n"; err != nil || got.String() != want {
		t.Errorf("%v: %swant %s", err, got.String(), want)
	}
}

func TestPrometheusReadsAllThatIsKnown(t *testing.T) {
	jobs := example()
	jobs[0].Places[0].Destination = "a \"quoted\"\\path\nof two lines"
	file := filepath.Join(t.TempDir(), "btrfs_backup.prom")
	before := syscall.Umask(0o077)
	err := WriteTextfile(file, jobs)
	syscall.Umask(before)
	btrfstest.Check(t, err)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(file)
	btrfstest.Check(t, err)
	// prometheus.io/docs/instrumenting/exposition_formats: text-based format
	sample := regexp.MustCompile(`^[a-z_]+\{job="[^"]*"(,destination="(\\["\\n]|[^"\\])*")?\} [0-9.]+$`)
	declared := ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			declared, _, _ = strings.Cut(name, " ")
		}
		if !strings.HasPrefix(line, "# ") && (!sample.MatchString(line) || !strings.HasPrefix(line, declared+"{")) {
			t.Errorf("after the type of %s: %q", declared, line)
		}
	}
	for _, want := range []string{
		`btrfs_backup_last_success_timestamp_seconds{job="home",destination="a \"quoted\"\\path\nof two lines"} `,
		`btrfs_backup_last_success_timestamp_seconds{job="system",destination="ssh://down/b"} `,
		`btrfs_backup_destination_up{job="system",destination="ssh://down/b"} 0`,
		`btrfs_backup_good{job="home",destination="ssh://nas/backup/a-long-path/that-is-cut/home"} 0`,
		`btrfs_backup_backups{job="system",destination="/mnt/usb/system"} 0`,
		`btrfs_backup_destination_free_bytes{job="system",destination="/mnt/usb/system"} 2147483648`,
		`btrfs_backup_destination_free_bytes{job="home",destination="/mnt/other/home"} 0`,
		`btrfs_backup_last_run_status{job="home"} 3`, `btrfs_backup_last_duration_seconds{job="home"} 1.5`,
		`btrfs_backup_last_bytes{job="home"} 12`, `btrfs_backup_skipped_total{job="home"} 2`,
	} {
		if !strings.Contains(string(content), want) {
			t.Errorf("%s is missing in\n%s", want, content)
		}
	}
	for _, unknown := range []string{`free_bytes{job="etc"`, `last_run_status{job="system"}`, `backups{job="system",destination="ssh://down/b"}`,
		`success_timestamp_seconds{job="system",destination="/mnt/usb/system"}`} {
		if strings.Contains(string(content), unknown) {
			t.Errorf("%s is told, but not known", unknown)
		}
	}
}

func TestOnlyWhatWasSeenIsGood(t *testing.T) {
	for _, j := range example() {
		for _, p := range j.Places {
			if p.State == Good && !p.Asked || !p.Asked && p.State.IsFine() && p.Away == "" {
				t.Errorf("%+v", p)
			}
		}
	}
	if AreFine(example()) || !AreFine([]Job{{Places: example()[0].Places[:1]}}) || AreFine([]Job{{Places: example()[1].Places[4:]}}) {
		t.Error("the sum is wrong")
	}
}

func TestRunsByHandAreOnTheRecordAndNotThoseOfTheJob(t *testing.T) {
	saved := func(job, source string, hours int, failed ...engine.Failure) report.Run {
		return report.Run{Time: now.Add(-time.Duration(hours) * time.Hour), Job: job, Source: source,
			Destinations: []report.Destination{{Destination: "/usb", Saved: []string{"1"}, Failures: failed}, {Destination: "/nas"}}}
	}
	r := recordOf("home", "/home", []report.Run{saved("other", "/home", 1), saved("home", "/home", 2, engine.Failure{Err: errors.New("incomplete")}),
		saved("", "/etc", 3), saved("", "/home", 4), saved("home", "/home", 5)})
	if got := recordOf("home", "/home", []report.Run{saved("", "/home", 1)}); got.last() != nil || got.saved("/usb").IsZero() {
		t.Errorf("by hand: %+v", got)
	}
	for maxAge, want := range map[int]bool{0: false, 4: true, 5: false} {
		p := Place{MaxAge: Seconds(time.Duration(maxAge) * time.Hour)}
		if got := r.overdue(p, now); !got.IsZero() != want {
			t.Errorf("%d hours: overdue since %v", maxAge, got)
		}
		if p.Newest = now; !r.overdue(p, now).IsZero() {
			t.Error("overdue with a backup")
		}
	}
	if len(r.own) != 2 || len(r.all) != 3 || !r.last().Time.Equal(now.Add(-2*time.Hour)) {
		t.Errorf("%+v", r)
	}
	if got := r.saved("/usb"); !got.Equal(now.Add(-4 * time.Hour)) {
		t.Errorf("saved at %v", got)
	}
	if got := r.saved("/nas"); !got.IsZero() {
		t.Errorf("saved at %v where nothing was", got)
	}
}

func TestEachJobWhoseLastRunFailedIsTold(t *testing.T) {
	run := func(hour int, outcome engine.Outcome) *report.Run {
		return &report.Run{Time: now.Add(time.Duration(hour-24) * time.Hour), Outcome: outcome}
	}
	told := func(jobs ...Job) (names []string) {
		for _, j := range lastRuns(jobs) {
			names = append(names, j.Name)
		}
		return names
	}
	a, b, c := Job{Name: "a", LastRun: run(1, engine.Failed)}, Job{Name: "b", LastRun: run(3, engine.Done)}, Job{Name: "c", LastRun: run(2, engine.Partly)}
	if got := told(a, b, c, Job{Name: "new"}); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("of two failures it tells %v", got)
	}
	if got := told(Job{Name: "older", LastRun: run(0, engine.Done)}, b); !slices.Equal(got, []string{"b"}) {
		t.Errorf("without one it tells %v", got)
	}
}

func TestEachLineForNagiosHasItsState(t *testing.T) {
	var got strings.Builder
	if _, err := WriteNagios(&got, example(), now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nOK home at /mnt/usb/home: ", "\nWARNING home at nas:/", "\nCRITICAL system at /mnt/usb/system: never"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("there is no %q in\n%s", want, got.String())
		}
	}
}
