package job_test

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

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A rig is a job with hooks that tell in a diary when they ran, and how many snapshots and backups there were.
type rig struct {
	t      testing.TB
	fs     *btrfstest.FS
	dir    string // of the diary
	target string
	spec   job.Spec
	hooks  []hook.Hook
	now    time.Time
	log    slog.Handler // nil: nobody sees it
	atNow  func()       // is called whenever the time is asked for; may be nil
}

func newRig(t testing.TB, engine job.Engine) *rig {
	t.Helper()
	const size = 256 << 20
	r := &rig{t: t, fs: btrfstest.New(t, size), dir: t.TempDir(), spec: job.Default(), now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.Local)}
	btrfstest.Run(t, "btrfs", "subvolume", "create", r.source())
	btrfstest.Check(t, os.WriteFile(filepath.Join(r.source(), "file"), []byte("content"), 0o600))
	r.target = filepath.Join(btrfstest.New(t, size).Dir, "home")
	btrfstest.Check(t, os.Mkdir(r.target, 0o700))
	r.spec.Engine, r.spec.Source, r.spec.Destinations = engine, job.Local{Path: r.source()}, []job.Place{job.Local{Path: r.target}}
	return r
}

func (r *rig) source() string    { return filepath.Join(r.fs.Dir, "home") }
func (r *rig) snapshots() string { return filepath.Join(r.source(), "snapshot") }
func (r *rig) diary() string     { return filepath.Join(r.dir, "diary") }

// add adds a hook; the scripts come after what it writes into the diary.
func (r *rig) add(name string, phase hook.Phase, before, after string, changes ...func(*hook.Hook)) {
	count := fmt.Sprintf(`$(ls '%s' 2>/dev/null | wc -w)/$(ls '%s' 2>/dev/null | wc -w)`, r.snapshots(), r.target)
	h := hook.Hook{Name: name, Around: string(phase),
		Before: []string{"sh", "-c", fmt.Sprintf(`echo "+%s %s" >>'%s'; %s`, name, count, r.diary(), before)},
		After: []string{"sh", "-c", fmt.Sprintf(`echo "-%s %s $BTRFS_BACKUP_STATUS${BTRFS_BACKUP_SNAPSHOT:+ named}" >>'%s'; %s`,
			name, count, r.diary(), after)}}
	for _, c := range changes {
		c(&h)
	}
	r.hooks = append(r.hooks, h)
}

// run does the job a day later, and gives what happened in order.
func (r *rig) run(ctx context.Context) (*engine.Report, error) {
	r.t.Helper()
	r.now = r.now.Add(24 * time.Hour)
	handler := r.log
	if handler == nil {
		handler = slog.DiscardHandler
	}
	given := job.Environment{Log: slog.New(handler), State: filepath.Join(r.dir, "state"), Now: func() time.Time {
		if r.atNow != nil {
			r.atNow()
		}
		return r.now
	}}
	machines := job.NewMachines(r.spec.Reach, given)
	defer machines.Close()
	hooks := &hook.Runner{Hooks: r.hooks, Job: "home", Source: r.source(), Log: given.Log, Dir: filepath.Join(r.dir, "run")}
	given.Around = hooks
	run, err := r.spec.Prepare(ctx, machines, given)
	btrfstest.Check(r.t, err)
	report, err := run(ctx)
	notes, _ := os.ReadFile(filepath.Join(r.dir, "run", "hooks.json"))
	if left := strings.TrimSpace(string(notes)); left != "" && left != "[]" {
		r.t.Errorf("afters are still noted: %s", left)
	}
	return report, err
}

// succeed does the job, which must end so.
func (r *rig) outcome(want engine.Outcome) *engine.Report {
	r.t.Helper()
	report, err := r.run(r.t.Context())
	btrfstest.Check(r.t, err)
	if got := report.Outcome(); got != want {
		r.t.Errorf("the outcome is %s, want %s; failures: %v", got, want, report.AllFailures())
	}
	return report
}

// want fails the test unless this was in the diary, and begins a new one.
func (r *rig) want(entries ...string) {
	r.t.Helper()
	content, err := os.ReadFile(r.diary())
	if err != nil && len(entries) > 0 {
		r.t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSpace(string(content)), "\n"); len(entries) > 0 && !slices.Equal(got, entries) {
		r.t.Errorf("what ran: %q\nwant:     %q", got, entries)
	} else if len(entries) == 0 && len(content) > 0 {
		r.t.Errorf("what ran: %q", got)
	}
	_ = os.Remove(r.diary())
}

// holds fails the test unless there are so many snapshots and backups.
func (r *rig) holds(snapshots, backups int) {
	r.t.Helper()
	for dir, want := range map[string]int{r.snapshots(): snapshots, r.target: backups} {
		found, _ := filepath.Glob(filepath.Join(dir, "2*"))
		if len(found) != want {
			r.t.Errorf("%s holds %v, want %d", dir, found, want)
		}
	}
}

func TestHooksOfASubvolumeAreAroundItsSnapshotAndItsTransfers(t *testing.T) {
	t.Parallel()
	r := newRig(t, job.Btrfs)
	r.spec.KeepSnapshots, r.spec.KeepBackups = retention.Policy{Last: 1}, retention.Policy{Last: 2}
	r.add("db", hook.Snapshot, "", "")
	r.add("net", hook.Transfer, "", "")
	r.add("vm", hook.Snapshot, "", "")
	r.outcome(engine.Done)
	r.want("+db 0/0", "+vm 0/0", "-vm 1/0 ok named", "-db 1/0 ok named", "+net 1/0", "-net 1/1 ok named")
	r.outcome(engine.Done)
	r.outcome(engine.Done)
	r.want("+db 1/1", "+vm 1/1", "-vm 2/1 ok named", "-db 2/1 ok named", "+net 2/1", "-net 1/2 ok named",
		"+db 1/2", "+vm 1/2", "-vm 2/2 ok named", "-db 2/2 ok named", "+net 2/2", "-net 1/2 ok named") // pruned within the transfer

	r.spec.DryRun = true
	r.outcome(engine.Done)
	r.want()
	r.spec.DryRun, r.spec.Subvolume.NoSnapshot = false, true
	r.outcome(engine.Done)
	r.want("+net 1/2", "-net 1/2 ok")
	r.spec.Subvolume.NoSnapshot, r.spec.Subvolume.NoTransfer, r.spec.KeepBackups = false, true, retention.Policy{}
	r.outcome(engine.Done)
	r.want("+db 1/2", "+vm 1/2", "-vm 2/2 ok named", "-db 2/2 ok named")
	r.spec.Subvolume.NoTransfer = false
	r.spec.To = map[string]job.To{r.target: {Absent: "away"}}
	r.outcome(engine.Done)
	r.want("+db 2/2", "+vm 2/2", "-vm 3/2 ok named", "-db 3/2 ok named")
}

func TestHooksOfADirectoryAreAroundItsCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t, job.Rsync)
	r.add("db", hook.Snapshot, "", "")
	r.add("net", hook.Transfer, "", "")
	r.outcome(engine.Done)
	r.want("+net 0/0", "+db 0/0", "-db 0/1 ok", "-net 0/1 ok")
}

func TestWhatAHookRefusesIsNotDone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		engine    job.Engine
		phase     hook.Phase
		status    int
		ran       []string
		snapshots int
		outcome   engine.Outcome
	}{
		{"before the snapshot", job.Btrfs, hook.Snapshot, 1, []string{"+first 0/0", "+bad 0/0", "-first 0/0 failed"}, 0, engine.Failed},
		{"before the snapshot, by a skip", job.Btrfs, hook.Snapshot, 75, []string{"+first 0/0", "+bad 0/0", "-first 0/0 skipped"}, 0, engine.Done},
		{"before the transfer", job.Btrfs, hook.Transfer, 1, []string{"+first 1/0", "+bad 1/0", "-first 1/0 failed"}, 1, engine.Failed},
		{"before the transfer, by a skip", job.Btrfs, hook.Transfer, 75, []string{"+first 1/0", "+bad 1/0", "-first 1/0 skipped"}, 1, engine.Done},
		{"before a copy", job.Rsync, hook.Snapshot, 1, []string{"+net 0/0", "+first 0/0", "+bad 0/0", "-first 0/0 failed", "-net 0/0 failed"}, 0, engine.Failed},
		{"before a copy, by a skip", job.Rsync, hook.Snapshot, 75, []string{"+net 0/0", "+first 0/0", "+bad 0/0", "-first 0/0 skipped", "-net 0/0 skipped"}, 0, engine.Done},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.engine)
			if test.engine == job.Rsync {
				r.add("net", hook.Transfer, "", "")
			}
			r.add("first", test.phase, "", "")
			r.add("bad", test.phase, fmt.Sprint("exit ", test.status), "", func(h *hook.Hook) { h.Critical = true })
			report := r.outcome(test.outcome)
			r.want(test.ran...)
			r.holds(test.snapshots, 0)
			if isSkipped := report.Skipped != ""; isSkipped != (test.status == 75) || report.Destinations[0].Absent == "" {
				t.Errorf("skipped: %q, destination: %+v", report.Skipped, report.Destinations[0])
			}
			isCritical := slices.ContainsFunc(report.AllFailures(), func(f engine.Failure) bool { return errors.As(f.Err, new(*hook.CriticalError)) })
			if isCritical != (test.status == 1) {
				t.Errorf("failures: %v", report.AllFailures())
			}
			r.hooks = nil
			r.outcome(engine.Done) // sends what is lacking
			want := test.snapshots
			if test.engine == job.Btrfs {
				want++
			}
			r.holds(want, max(want, 1))
		})
	}
}

func TestAnAfterThatFailsLeavesTheBackup(t *testing.T) {
	t.Parallel()
	for _, phase := range []hook.Phase{hook.Snapshot, hook.Transfer} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, job.Btrfs)
			r.add("db", phase, "", "exit 1")
			report := r.outcome(engine.Partly)
			r.holds(1, 1)
			if len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Err.Error(), "hook db after the") {
				t.Errorf("failures: %v", report.Failures)
			}
		})
	}
}

func TestAftersAreToldThatTheSnapshotOrATransferFailed(t *testing.T) {
	t.Parallel()
	r := newRig(t, job.Btrfs)
	r.add("db", hook.Snapshot, fmt.Sprintf("mount -o remount,ro '%s'", r.fs.Dir), fmt.Sprintf("mount -o remount,rw '%s'", r.fs.Dir))
	r.outcome(engine.Failed)
	r.want("+db 0/0", "-db 0/0 failed")
	r.holds(0, 0)

	r.hooks = nil
	target := filepath.Dir(r.target)
	r.add("net", hook.Transfer, fmt.Sprintf("mount -o remount,ro '%s'", target), fmt.Sprintf("mount -o remount,rw '%s'", target))
	r.outcome(engine.Failed)
	r.want("+net 1/0", "-net 1/0 failed named")
	r.holds(1, 0)
}

func TestAftersRunWhenASignalEndsTheRun(t *testing.T) {
	t.Parallel()
	cause := errors.New("ended by a signal")
	check := func(r *rig, ctx context.Context, ran ...string) {
		r.t.Helper()
		if _, err := r.run(ctx); !errors.Is(err, cause) {
			r.t.Errorf("error: %v", err)
		}
		r.want(ran...)
	}
	t.Run("in a before", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, job.Btrfs)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		fifo := newFifo(t)
		r.add("db", hook.Snapshot, fmt.Sprintf("echo >'%s'; exec sleep 1000", fifo), "")
		go func() {
			_, _ = os.ReadFile(fifo)
			cancel(cause)
		}()
		check(r, ctx, "+db 0/0", "-db 0/0 failed")
		r.holds(0, 0)
	})
	t.Run("in the snapshot", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, job.Btrfs)
		ctx, cancel := context.WithCancelCause(t.Context())
		r.add("db", hook.Snapshot, "", "")
		r.add("net", hook.Transfer, "", "")
		r.atNow = func() { cancel(cause) } // to name the snapshot
		report, err := r.run(ctx)
		if !errors.Is(err, cause) || slices.ContainsFunc(report.Failures, func(f engine.Failure) bool {
			return errors.Is(f.Err, cause) || strings.Contains(f.Err.Error(), "hook net")
		}) {
			t.Errorf("error: %v, failures: %v", err, report.Failures)
		}
		content, err := os.ReadFile(r.diary())
		btrfstest.Check(t, err)
		if lines := strings.Split(strings.TrimSpace(string(content)), "\n"); len(lines) != 2 || lines[0] != "+db 0/0" || !strings.Contains(lines[1], " failed") {
			t.Errorf("what ran: %q", lines)
		}
	})
	for _, kind := range []job.Engine{job.Btrfs, job.Rsync} {
		t.Run("in a transfer by "+string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			r.add("db", hook.Snapshot, "", "")
			if kind == job.Btrfs {
				fifo := newFifo(t)
				r.spec.Destinations = []job.Place{job.Command{Line: fmt.Sprintf("echo >'%s'; exec sleep 1000", fifo)}}
				r.add("net", hook.Transfer, "", "")
				go func() {
					_, _ = os.ReadFile(fifo)
					cancel(cause)
				}()
				check(r, ctx, "+db 0/0", "-db 1/0 ok named", "+net 1/0", "-net 1/0 failed named")
				return
			}
			r.add("net", hook.Transfer, "", "")
			r.atNow = func() { cancel(cause) } // to name the backup
			check(r, ctx, "+net 0/0", "+db 0/0", "-db 0/0 failed", "-net 0/0 failed")
		})
	}
	t.Run("in an after", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, job.Btrfs)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		fifo := newFifo(t)
		r.add("db", hook.Snapshot, "", "")
		ended := filepath.Join(t.TempDir(), "ended")
		r.add("vm", hook.Snapshot, "", fmt.Sprintf("echo >'%s'; until [ -e '%s' ]; do sleep 0.05; done; echo 'its end' >>'%s'", fifo, ended, r.diary()))
		go func() {
			_, _ = os.ReadFile(fifo)
			cancel(cause)
			if err := os.WriteFile(ended, nil, 0o600); err != nil {
				t.Error(err)
			}
		}()
		check(r, ctx, "+db 0/0", "+vm 0/0", "-vm 1/0 ok named", "its end", "-db 1/0 ok named")
	})
}

// newFifo makes a pipe with a name.
func newFifo(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	btrfstest.Check(t, unix.Mkfifo(path, 0o600))
	return path
}
