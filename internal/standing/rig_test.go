package standing_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

var check = btrfstest.Check

// A rig has sources on one filesystem, and backups on another one.
type rig struct {
	testing.TB
	source, destination string
	given               job.Environment
	now                 time.Time
	runs                []report.Run // newest first
	disks               []disk.Disk
	log                 strings.Builder
}

func newRig(t testing.TB) *rig {
	t.Helper()
	const size = 256 << 20
	r := &rig{TB: t, source: btrfstest.New(t, size).Dir, destination: btrfstest.New(t, size).Dir,
		now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.Local)}
	r.given = job.Environment{Log: slog.New(slog.NewTextHandler(&r.log, nil)), State: t.TempDir(), Now: func() time.Time { return r.now }}
	return r
}

// subvolume makes a source.
func (r *rig) subvolume(name string) string {
	r.Helper()
	path := filepath.Join(r.source, name)
	check(r, btrfs.Create(btrfstest.Open(r, filepath.Dir(path)), filepath.Base(path)))
	check(r, os.WriteFile(filepath.Join(path, "file"), []byte(name), 0o600))
	return path
}

// job makes a daily job.
func (r *rig) job(source string, destinations ...string) *config.Job {
	r.Helper()
	j := &config.Job{Name: filepath.Base(source), Spec: job.Default(), Auto: true}
	var err error
	j.Every, err = due.Parse("daily", nil)
	check(r, err)
	j.Spec.Source = job.Local{Path: source}
	places, complaints := job.ParsePlaces(destinations)
	check(r, complaints.Err())
	j.Spec.Destinations = places
	return j
}

func (r *rig) to(name string) string { return filepath.Join(r.destination, name) }

// run does a job, and puts it on record.
func (r *rig) run(j *config.Job) {
	r.Helper()
	machines := job.NewMachines(j.Spec.Reach, r.given)
	defer machines.Close()
	run, err := j.Spec.Prepare(r.Context(), machines, r.given)
	check(r, err)
	did, err := run(r.Context())
	if err != nil || did.Outcome() == engine.Failed {
		r.Fatalf("%v, %v\n%s", did.AllFailures(), err, r.log.String())
	}
	entry := report.Summarize(report.Result{Report: did, Outcome: did.Outcome()})
	entry.Time, entry.Job = r.now, j.Name
	check(r, report.History{Dir: r.given.State, Limit: report.DefaultLimit}.Add(r.Context(), entry))
	r.runs, err = report.History{Dir: r.given.State}.Runs()
	check(r, err)
}

// days lets time pass.
func (r *rig) days(n int) { r.now = r.now.AddDate(0, 0, n) }

func (r *rig) ask(jobs ...*config.Job) []standing.Job {
	r.Helper()
	const patience = time.Minute // which nobody needs
	return standing.Question{Environment: r.given, Patience: patience, Runs: r.runs, Disks: r.disks}.Survey(r.Context(), jobs)
}

// wants compares the places of a job with texts such as "good 3".
func (r *rig) wants(claim string, j *config.Job, want ...string) standing.Job {
	r.Helper()
	told := r.ask(j)[0]
	var got []string
	for _, p := range told.Places {
		got = append(got, strings.TrimSuffix(fmt.Sprintf("%s %d", p.State, p.Backups), " 0"))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		r.Errorf("%s: %q, want %q\n%+v\n%s", claim, got, want, told, r.log.String())
	}
	return told
}

// alter changes what a backup holds.
func (r *rig) alter(backup string) {
	r.Helper()
	dir, name := btrfstest.Open(r, filepath.Dir(backup)), filepath.Base(backup)
	check(r, btrfs.SetReadOnly(dir, name, false))
	check(r, os.WriteFile(filepath.Join(backup, "file"), []byte("altered"), 0o600))
	check(r, btrfs.SetReadOnly(dir, name, true))
}

// newest gives the path of the newest backup in a folder.
func (r *rig) newest(folder string) string {
	r.Helper()
	all, err := filepath.Glob(filepath.Join(folder, "2*"))
	if err != nil || len(all) == 0 {
		r.Fatalf("%v, %v", all, err)
	}
	return all[len(all)-1]
}
