package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
)

// twins are a source and what was restored of it on another disk, with backups in one folder.
type twins struct {
	testing.TB
	original, copied, destination string
	old                           []string
	day                           int
}

func newTwins(t testing.TB, restore func(t testing.TB, backup, to string)) *twins {
	t.Helper()
	w := &twins{TB: t, day: 2}
	w.original, w.destination = newSmallPair(t)
	w.old = changed(t, 2, w.original, w.destination)
	w.copied = filepath.Join(smallFS(t).Dir, "copied")
	restore(t, filepath.Join(w.destination, w.old[1]), w.copied)
	return w
}

func byCommand(t testing.TB, backup, to string) {
	t.Helper()
	restored(t, march(3), backup, to)
}

func byHand(t testing.TB, backup, to string) {
	t.Helper()
	folder := makeDir(t, filepath.Dir(to)+"/received")
	sendByHand(t, backup, folder)
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "snapshot", filepath.Join(folder, filepath.Base(backup)), to)
}

// run backs up, so that one of the source stays, and gives its name.
func (w *twins) run(source string) string {
	w.Helper()
	w.day++
	write(w, filepath.Join(source, "file"), strings.Repeat("y", w.day))
	return backUp(w, exitDone, march(w.day), "-N", "2", "-n", "1", source, w.destination).Snapshot
}

// stay tells that these backups are there, and that explain keeps all of them.
func (w *twins) stay(when string, wanted ...string) {
	w.Helper()
	slices.Sort(wanted)
	want(w, when, names(w, w.destination), wanted...)
	r := expect(w, exitDone, invoke(w, march(w.day), "explain", "--json", "-n", "1", w.destination))
	var decided []inventory.Decided
	btrfstest.Check(w, json.Unmarshal([]byte(r.stdout), &decided))
	for _, d := range decided {
		if !d.Keep {
			w.Errorf("%s: %s would go: %q", when, d.Name, d.Reasons)
		}
	}
}

func TestASourceAndItsRestoredCopyThatBothLiveKeepTheirBackups(t *testing.T) {
	t.Parallel()
	for how, restore := range map[string]func(testing.TB, string, string){"by command": byCommand, "by hand": byHand} {
		t.Run("the copy first, "+how, func(t *testing.T) {
			t.Parallel()
			w := newTwins(t, restore)
			c := w.run(w.copied)
			w.stay("the original may live", w.old[1], c)
			a := w.run(w.original)
			if got := names(t, w.destination); !slices.Contains(got, c) {
				t.Errorf("the original deletes %s of the copy: %q", c, got)
			}
			a = w.run(w.original)
			w.stay("the original lives", a, c)
			c = w.run(w.copied)
			w.stay("both live", a, c)
		})
		t.Run("the original first, "+how, func(t *testing.T) {
			t.Parallel()
			w := newTwins(t, restore)
			a := w.run(w.original)
			c := w.run(w.copied)
			w.stay("both live", a, c)
			for _, of := range []string{w.copied, w.original} {
				folder := filepath.Join(of, "snapshot")
				restored(w, march(w.day), "--in-place", filepath.Join(folder, names(w, folder)[0]), of)
			}
			next := w.run(w.copied) // what of the older ones is its own may be in doubt
			if got := names(t, w.destination); !slices.Contains(got, a) || !slices.Contains(got, next) {
				t.Errorf("after a rollback of the copy: %q without %s or %s", got, a, next)
			}
			a = w.run(w.original)
			if got := names(t, w.destination); !slices.Contains(got, a) || !slices.Contains(got, next) {
				t.Errorf("after a rollback of the original: %q without %s or %s", got, a, next)
			}
		})
	}
}

func TestAnInPlaceRestoreFromABackupDoesNotTakeTheCopysHistory(t *testing.T) {
	t.Parallel()
	w := newTwins(t, byCommand)
	c := w.run(w.copied) // it counts as the one that goes on
	restored(t, march(w.day), "--in-place", filepath.Join(w.destination, w.old[1]), w.original)
	a := w.run(w.original)
	if got := names(t, w.destination); !slices.Contains(got, c) || !slices.Contains(got, a) {
		t.Errorf("%q without %s or %s", got, c, a)
	}
	a = w.run(w.original)
	c = w.run(w.copied)
	w.stay("after runs of both", a, c)
	restored(t, march(w.day), "--in-place", filepath.Join(w.destination, c), w.copied)
	c = w.run(w.copied)
	w.stay("after a rollback of the copy", a, c)
}

func TestARestoreForALookTakesNoHistory(t *testing.T) {
	t.Parallel()
	w := newTwins(t, byCommand)
	list := expect(t, exitDone, invoke(t, march(3), "list", w.destination)).stdout
	if !strings.Contains(list, ":"+w.original) || strings.Contains(list, w.copied) {
		t.Errorf("list:\n%s", list)
	}
	w.toOriginal()
	a := w.run(w.original)
	want(t, "backups", names(t, w.destination), a)

	w = newTwins(t, byCommand)
	w.run(w.copied)
	w.toOriginal()
}

// toOriginal tells that files of a backup of the original are restored to where they were.
func (w *twins) toOriginal() {
	w.Helper()
	dry := expect(w, exitDone, invoke(w, march(3), "restore", "--dry-run", filepath.Join(w.destination, w.old[1]), "--path", "file"))
	if !strings.Contains(dry.stdout, w.original+"/file") || strings.Contains(dry.stdout, w.copied) {
		w.Errorf("restore:\n%s", dry.stdout)
	}
}
