package set_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

const size = 256 << 20

// A rig is a set of two subvolumes, root and data, and a directory, etc, with a destination.
type rig struct {
	testing.TB
	source, destination string // filesystems
	spec                job.Spec
	given               job.Environment
	now                 time.Time
	atNow               func() // is called whenever the time is asked for; may be nil
	log                 strings.Builder
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{TB: t, source: btrfstest.New(t, size).Dir, destination: btrfstest.New(t, size).Dir, spec: job.Default(),
		now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.Local)}
	for _, name := range []string{"root", "data", "etc"} {
		if name == "etc" {
			btrfstest.Check(t, os.Mkdir(r.at(name), 0o755))
		} else {
			r.subvolume(name)
		}
		r.write(name, name)
		r.spec.Members = append(r.spec.Members, job.Member{Name: name, Source: job.Local{Path: r.at(name)}})
	}
	r.spec.Destinations = []job.Place{job.Local{Path: r.to()}}
	r.given = job.Environment{Log: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), State: t.TempDir()}
	r.given.Now = func() time.Time {
		if r.atNow != nil {
			r.atNow()
		}
		return r.now
	}
	return r
}

func (r *rig) at(path ...string) string {
	return filepath.Join(append([]string{r.source}, path...)...)
}

// to gives a path in the destination of the set.
func (r *rig) to(path ...string) string {
	return filepath.Join(append([]string{r.destination, "server"}, path...)...)
}

func (r *rig) subvolume(path ...string) {
	r.Helper()
	full := r.at(path...)
	btrfstest.Check(r, os.MkdirAll(filepath.Dir(full), 0o755))
	btrfstest.Check(r, btrfs.Create(btrfstest.Open(r, filepath.Dir(full)), filepath.Base(full)))
}

// write changes a member.
func (r *rig) write(member, content string) {
	r.Helper()
	btrfstest.Check(r, os.WriteFile(r.at(member, "file"), []byte(content), 0o600))
}

// run does the job a day later.
func (r *rig) run() (*engine.Report, error) {
	r.Helper()
	return r.runIn(r.Context())
}

func (r *rig) runIn(ctx context.Context) (*engine.Report, error) {
	r.Helper()
	r.now = r.now.AddDate(0, 0, 1)
	if err := r.spec.Check().Err(); err != nil {
		r.Fatal(err)
	}
	machines := job.NewMachines(r.spec.Reach, r.given)
	defer machines.Close()
	run, err := r.spec.Prepare(ctx, machines, r.given)
	btrfstest.Check(r, err)
	return run(ctx)
}

// succeed is run, without any failure.
func (r *rig) succeed() *engine.Report {
	r.Helper()
	did, err := r.run()
	if err != nil || did.Outcome() != engine.Done {
		r.Fatalf("%v, %v\n%s", did.AllFailures(), err, r.log.String())
	}
	return did
}

// fail is run, with failures that have this in their texts.
func (r *rig) fail(text string) *engine.Report {
	r.Helper()
	did, err := r.run()
	if all := fmt.Sprint(did.AllFailures(), err); did.Outcome() == engine.Done && err == nil || !strings.Contains(all, text) {
		r.Fatalf("%s, and not about %s\n%s", all, text, r.log.String())
	}
	return did
}

// day gives the name of the nth run's set.
func day(n int) string {
	return engine.Naming{}.Name(time.Date(2026, 6, 1+n, 12, 0, 0, 0, time.Local))
}

func days(all ...int) (names []string) {
	for _, n := range all {
		names = append(names, day(n))
	}
	return names
}

// holds compares the names in a directory, hidden ones left out.
func (r *rig) holds(dir string, want ...string) {
	r.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && len(want) > 0 {
		r.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			got = append(got, e.Name())
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// isComplete fails unless the sets are there, with all that the members hold now in the last of them.
func (r *rig) isComplete(names ...string) {
	r.Helper()
	if latest, err := os.Readlink(r.to(".latest")); err != nil || latest != names[len(names)-1] {
		r.Errorf("the newest set is %q, want %q: %v", latest, names[len(names)-1], err)
	}
	for i, name := range names {
		r.holds(r.to(name), "data", "etc", "root")
		for _, m := range []string{"data", "etc", "root"} {
			target, err := os.Readlink(r.to(name, m))
			if err != nil || target != "../"+m+"/"+name {
				r.Errorf("%s of %s leads to %q: %v", m, name, target, err)
			}
			content, err := os.ReadFile(r.to(name, m, "file"))
			now, _ := os.ReadFile(r.at(m, "file"))
			if err != nil || i == len(names)-1 && string(content) != string(now) {
				r.Errorf("%s of %s holds %q, %v", m, name, content, err)
			}
		}
	}
}

// policy reads one.
func policy(t testing.TB, text string) retention.Policy {
	t.Helper()
	p, err := retention.Parse(text)
	btrfstest.Check(t, err)
	return p
}
