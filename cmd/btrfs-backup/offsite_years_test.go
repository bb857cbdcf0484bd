package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

const yearsPolicy = "14d 8w 12m 3y"

// TestAYearOfAStore has gaps between its days, as a machine has that is not always on.
func TestAYearOfAStore(t *testing.T) {
	t.Parallel()
	r := newOffsiteYears(t)
	for day := range 20 {
		r.day(day)
	}
	for day := 23; day < 400; day += 23 {
		r.day(day)
	}
	r.isWhole()
}

func TestThreeYearsOfAStore(t *testing.T) {
	btrfstest.OnlyInAll(t)
	t.Parallel()
	r := newOffsiteYears(t)
	for day := range 3*365 + 1 {
		r.day(day)
	}
	r.isWhole()
}

// offsiteYears is a source that changes from day to day, and what was in it.
type offsiteYears struct {
	*offsiteRig
	*rand.Rand
	now    time.Time
	policy retention.Policy
	was    map[string]string // what each snapshot held, by its name
}

func newOffsiteYears(t testing.TB) *offsiteYears {
	t.Helper()
	policy, err := retention.Parse(yearsPolicy)
	btrfstest.Check(t, err)
	r := &offsiteYears{newOffsiteRig(t), rand.New(rand.NewPCG(1, 2)), time.Time{}, policy, make(map[string]string)}
	r.keep = []string{"--keep-backups", yearsPolicy, "-N", "1"}
	for i := range 50 {
		r.change(i)
	}
	return r
}

// change writes a file of up to 40 KiB anew.
func (r *offsiteYears) change(i int) {
	r.Helper()
	content := make([]byte, r.IntN(40<<10))
	for at := range content {
		content[at] = byte(r.Uint32())
	}
	btrfstest.Check(r, os.WriteFile(filepath.Join(r.source, fmt.Sprint("file", i)), content, 0o644))
}

// day makes the changes and the run of a day.
func (r *offsiteYears) day(n int) {
	r.Helper()
	r.now = time.Date(2026, 3, 14, 1, 0, 0, 0, time.UTC).AddDate(0, 0, n)
	for range 1 + r.IntN(3) {
		r.change(r.IntN(50))
	}
	from, to := filepath.Join(r.source, fmt.Sprint("file", r.IntN(50))), filepath.Join(r.source, fmt.Sprint("file", r.IntN(50)))
	btrfstest.Check(r, os.Rename(from, to))
	btrfstest.Check(r, os.WriteFile(from, []byte(r.now.String()), 0o644))
	expect(r, exitDone, r.run([]string{testOnlyNow + "=" + r.now.Format(time.RFC3339)}))
	taken := r.snapshots()
	newest := taken[len(taken)-1]
	r.was[newest] = r.content(filepath.Join(r.source, "snapshot", newest))
}

// content gives a digest of all that a tree holds.
func (r *offsiteYears) content(dir string) string {
	r.Helper()
	sum := sha256.New()
	btrfstest.Check(r, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		if d.IsDir() && rel == "snapshot" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, rel, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			fmt.Fprintf(sum, "%x\n", sha256.Sum256(content))
			return err
		}
		return nil
	}))
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// isWhole fails the test unless the store holds what the policy wants, little more, and all of it as it was.
func (r *offsiteYears) isWhole() {
	r.Helper()
	dated := make([]string, 0, len(r.was))
	for name := range r.was {
		dated = append(dated, name)
	}
	slices.Sort(dated)
	wanted, held := decide(r, r.policy, r.now, dated), r.held()
	for _, name := range wanted {
		if !slices.Contains(held, name) {
			r.Errorf("%s is wanted, and not in the store", name)
		}
	}
	most := plan.MostSteps(r.policy)
	if extra := len(held) - len(wanted); extra > most+2 { // one bucket of leaves, a first one of each level, and two that are complete
		r.Errorf("%d backups beyond the %d that are wanted: %v", extra, len(wanted), held)
	}
	c, deepest, complete := r.catalog(), 0, 0
	for i := range c.Backups {
		chain, _ := c.Chain(&c.Backups[i])
		if deepest = max(deepest, len(chain)); len(chain) == 1 {
			complete++
		}
	}
	pinned := len(r.snapshots())
	r.Logf("%d runs: %d wanted, %d held, %d of them complete; at most %d build on each other; %d snapshots", len(r.was), len(wanted), len(held),
		complete, deepest, pinned)
	if deepest > most || pinned > 8 || len(c.Rest) > 0 {
		r.Errorf("%d build on each other, want at most %d; %d snapshots; besides: %+v", deepest, most, pinned, c.Rest)
	}
	folder, all := r.received()
	if !slices.Equal(all, held) {
		r.Errorf("of %v only %v can be restored", held, all)
	}
	for _, name := range all {
		if got := r.content(filepath.Join(folder, name)); got != r.was[name] {
			r.Errorf("%s came back as something else", name)
		}
	}
	if !slices.Contains(held, r.snapshots()[pinned-1]) {
		r.Errorf("the newest is missing: %v", held)
	}
}
