package removal_test

import (
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
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
)

var check = btrfstest.Check

// A rig has sources on one filesystem, and backups of them on another.
type rig struct {
	testing.TB
	source, destination string // filesystems
	spec                job.Spec
	given               job.Environment
	host                host.Trees
	now                 time.Time
	freed               *int64 // by the last deletion
}

func newRig(t testing.TB) *rig {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	r := &rig{TB: t, source: btrfstest.New(t, 128<<20).Dir, destination: btrfstest.New(t, 128<<20).Dir, spec: job.Default(),
		host: local.New(silent), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.Local)}
	r.given = job.Environment{Log: silent, State: t.TempDir(), Now: func() time.Time { return r.now }}
	check(t, btrfs.Create(btrfstest.Open(t, r.source), "home"))
	check(t, os.Mkdir(r.at("etc"), 0o755))
	for _, name := range []string{"home", "etc"} {
		check(t, os.WriteFile(r.at(name, "file"), make([]byte, 1<<20), 0o600))
	}
	return r
}

func (r *rig) at(path ...string) string { return filepath.Join(append([]string{r.source}, path...)...) }
func (r *rig) to(path ...string) string {
	return filepath.Join(append([]string{r.destination}, path...)...)
}

// backUp backs a source up to destinations, once on each of so many days.
func (r *rig) backUp(times int, source string, destinations ...string) *engine.Report {
	r.Helper()
	r.spec.Source, r.spec.Destinations = job.Local{Path: source}, nil
	for _, d := range destinations {
		r.spec.Destinations = append(r.spec.Destinations, job.Local{Path: d})
	}
	return r.run(times)
}

func (r *rig) run(times int) (did *engine.Report) {
	r.Helper()
	for range times {
		r.now = r.now.AddDate(0, 0, 1)
		check(r, r.spec.Check().Err())
		machines := job.NewMachines(r.spec.Reach, r.given)
		run, err := r.spec.Prepare(r.Context(), machines, r.given)
		check(r, err)
		did, err = run(r.Context())
		machines.Close()
		if err != nil || did.Outcome() != engine.Done {
			r.Fatalf("%v, %v", did.AllFailures(), err)
		}
	}
	return did
}

func day(n int) string { return engine.Naming{}.Name(time.Date(2026, 6, 1+n, 12, 0, 0, 0, time.Local)) }

func days(all ...int) (names []string) {
	for _, n := range all {
		names = append(names, day(n))
	}
	return names
}

// dated gives the names in a directory that have dates.
func dated(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		if _, ok := engine.NamingOf(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names
}

func (r *rig) holds(dir string, want ...string) {
	r.Helper()
	if got := dated(r, dir); !slices.Equal(got, want) {
		r.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

func (r *rig) order(folder string, c removal.Choice) []removal.Order {
	return []removal.Order{{Host: r.host, Folder: folder, Choice: c}}
}

// deletes carries an order out, and gives what was deleted.
func (r *rig) deletes(folder string, c removal.Choice, o removal.Options) (gone []removal.Item, stay []removal.Item) {
	r.Helper()
	o.Log = r.given.Log
	did, err := removal.Run(r.Context(), r.order(folder, c), o)
	check(r, err)
	r.freed = did.Freed
	for _, i := range did.Items {
		if i.Deleted {
			gone = append(gone, i)
		} else {
			stay = append(stay, i)
		}
	}
	return gone, stay
}

// refuses fails unless an order is refused, the error tells this, and nothing is gone.
func (r *rig) refuses(folder string, c removal.Choice, o removal.Options, text, forward string) {
	r.Helper()
	before := dated(r, folder)
	o.Log = r.given.Log
	did, err := removal.Run(r.Context(), r.order(folder, c), o)
	if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(hint.Of(err), forward) || len(did.Items) > 0 {
		r.Errorf("%v, hint %q, want %q, %q; %d items", err, hint.Of(err), text, forward, len(did.Items))
	}
	r.holds(folder, before...)
}

// ledger gives what is held in a folder of snapshots.
func (r *rig) ledger(folder string) string {
	r.Helper()
	content, err := os.ReadFile(filepath.Join(folder, ".outstanding_transfers"))
	check(r, err)
	return string(content)
}

func namesOf(items []removal.Item) (names []string) {
	for _, i := range items {
		names = append(names, i.Name)
	}
	return names
}

func (r *rig) policy(text string) inventory.Policy {
	p := inventory.Policy{}
	check(r, parse(text, &p.Backups))
	check(r, parse(text, &p.Snapshots))
	return p
}
