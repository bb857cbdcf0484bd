package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// saveThree makes a complete backup and two increments, each upon the one before.
func (r *offsiteRig) saveThree() {
	r.Helper()
	r.keep = []string{"--keep-backups", "48h 7d"} // each hour builds on the one before
	for i := range 3 {
		r.write("data", 3*smallPart)
		r.write([]string{"a", "b", "c"}[i], 1000)
		r.saves()
	}
	if b := r.catalog().Backups; len(b) != 3 || !b[0].Full() || b[1].Parent != b[0].UUID || b[2].Parent != b[1].UUID {
		r.Fatalf("no chain of three: %+v", b)
	}
}

// reads tells what comes of reading a backup to its end.
func (r *offsiteRig) reads(name string) error {
	r.Helper()
	s, c := r.open(), r.catalog()
	i := slices.IndexFunc(c.Backups, func(b store.Backup) bool { return b.Name == name })
	if i < 0 {
		r.Fatalf("%s is not in the store", name)
	}
	content := s.Stream(r.Context(), &c.Backups[i].Manifest, r.ids)
	defer content.Close()
	_, err := io.Copy(io.Discard, content)
	return err
}

func TestAByteThatIsFlippedInAStoreIsFoundAndNeverRestored(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.saveThree()
	taken := r.snapshots()
	flipped := func(pattern string, then func()) {
		t.Helper()
		path := r.only(pattern)
		content, err := os.ReadFile(path)
		btrfstest.Check(t, err)
		flip(t, path)
		then()
		btrfstest.Check(t, os.WriteFile(path, content, 0o600))
	}
	flipped("backups/*/"+taken[1]+".*/data.000001", func() {
		if err := r.reads(taken[1]); err == nil || !strings.Contains(err.Error(), "data.000001 of "+r.place+" is damaged") {
			t.Errorf("a part: %v", err)
		}
		if err := r.reads(taken[2]); err != nil {
			t.Errorf("another backup: %v", err)
		}
	})
	flipped("backups/*/"+taken[1]+".*/manifest", func() { // the index has it, too
		if err := r.reads(taken[1]); err != nil {
			t.Errorf("a manifest: %v", err)
		}
		btrfstest.Check(t, os.Remove(r.only("index/*")))
		if got := r.held(); slices.Contains(got, taken[1]) {
			t.Errorf("a manifest without an index: the store holds %v", got)
		}
	})
	r.write("data", smallPart)
	r.saves() // which makes the index anew
	flipped("index/*", func() {
		r.holdsOnly(r.snapshots())
		r.saves("--no-snapshot")
	})
	flipped("canary", func() {
		content, err := os.ReadFile(filepath.Join(r.folder, "canary"))
		btrfstest.Check(t, err)
		if _, err := seal.TestCanary(content, r.ids); err == nil {
			t.Error("a damaged canary passes")
		}
		r.saves("--no-snapshot")
	})
	flipped("format", func() {
		expect(t, exitFailed, r.run(nil), "format of "+r.folder+" is damaged", "each backup can still be restored by hand")
	})
	r.saves()
	r.isSaved()
}

// Each thing that a store consists of is cut short, which its listing tells at once.
func TestWhatIsMissingOrShortInAStoreIsToldByEachRunAndStoredOnceMore(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.saveThree()
	taken := r.snapshots()
	for name, harm := range map[string]func(path string) error{
		"data.000001 is missing":    os.Remove,
		"data.000001 has 100 bytes": func(path string) error { return os.Truncate(path, 100) },
	} {
		before := r.snapshots()
		btrfstest.Check(t, harm(r.only("backups/*/"+taken[1]+".*/data.000001")))
		if got := r.held(); slices.Contains(got, taken[1]) {
			t.Errorf("%s: the store holds %v", name, got)
		}
		expect(t, exitPartly, r.run(nil, "--no-snapshot"), `"`+taken[1]+`" cannot be restored: `+name, "is stored once more",
			"1 left alone: cannot be restored: "+taken[1]+" is missing, on which it builds")
		r.holds(before)
		r.saves("--no-snapshot")
	}
	r.isSaved()
}

// holds fails the test unless all of these can be restored.
func (r *offsiteRig) holds(want []string) {
	r.Helper()
	folder, all := r.received()
	slices.Sort(all)
	if !slices.Equal(all, want) {
		r.Fatalf("%v can be restored, and not %v", all, want)
	}
	for _, name := range all {
		isCopy(r, r.source, folder, name)
	}
}

func TestWhatBuildsOnALostBackupIsNamedAndNothingBuildsOnIt(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	r.saveThree()
	taken := r.snapshots()
	btrfstest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(r.source, "snapshot", taken[1]))
	btrfstest.Check(t, os.RemoveAll(r.only("backups/*/"+taken[1]+".*")))
	r.write("data", 3*smallPart)
	done := r.run(nil, "--json")
	if !strings.Contains(done.stderr, taken[1]+"\" cannot be restored: all of it is missing") {
		t.Errorf("status %d:\n%s", done.status, done.stderr)
	}
	for _, sent := range sentTo(t, done, r.place) {
		if sent.Parent == taken[1] || sent.Parent == taken[2] && !slices.Contains(r.restorable(), taken[2]) {
			t.Errorf("it builds on what is lost: %+v", sent)
		}
	}
	if got := r.restorable(); !slices.Contains(got, r.snapshots()[len(r.snapshots())-1]) || !slices.Contains(got, taken[0]) {
		t.Errorf("%v can be restored", got)
	}
	r.holds(r.restorable())
}

// restorable gives the names of backups that have all that they build on, in order.
func (r *offsiteRig) restorable() (all []string) {
	r.Helper()
	c := r.catalog()
	for i := range c.Backups {
		chain, missing := c.Chain(&c.Backups[i])
		if missing.IsZero() && !slices.ContainsFunc(chain, func(b *store.Backup) bool { return len(b.Faults) > 0 }) {
			all = append(all, c.Backups[i].Name)
		}
	}
	slices.Sort(all)
	return all
}

func TestVerifyNamesEachByteThatIsFlippedInAStoreAndRestoreRefusesIt(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		r.saveThree()
		verify := func(status int, texts ...string) {
			r.Helper()
			args := []string{"verify", "--download", r.place}
			if r.access != "" {
				args = append(args, "--credentials", r.access)
			}
			cmd := prepare(r.environ(), args...)
			expect(r, status, invokeCmd(r, cmd), texts...)
		}
		verify(exitDone)
		name := r.snapshots()[1]
		for _, object := range []string{"data.000001", "names.000000", "manifest"} {
			path := r.only("backups/*/" + name + ".*/" + object)
			content, err := os.ReadFile(path)
			btrfstest.Check(r, err)
			flip(r, path)
			verify(exitDiffer, name, object)
			if object == "data.000001" {
				args := []string{"restore", "-i", r.key, r.place + "/" + r.sourceName() + "/" + name, filepath.Join(r.fs.Dir, "back")}
				if r.access != "" {
					args = append(args, "--credentials", r.access)
				}
				failed := invokeCmd(r, prepare(r.environ(), args...))
				if failed.status == exitDone || !strings.Contains(failed.stderr, object) || !strings.Contains(failed.stderr, "damaged") {
					r.Errorf("restore: status %d: %s", failed.status, failed.stderr)
				}
			}
			btrfstest.Check(r, os.WriteFile(path, content, 0o600))
		}
	})
}
