package main

import (
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// withoutParents runs while subvolumes are away from a folder that it is about to build upon.
func (r *rig) withoutParents(folder string, away []string) result {
	r.Helper()
	hold := makeDir(r, filepath.Join(r.TempDir(), "hold"))
	run := start(r, r.command([]string{testOnlyHoldAt + "=receive begun=" + hold}))
	run.says(heldAt + "receive begun")
	for _, name := range away {
		path := filepath.Join(folder, name)
		if folder == r.destination { // where another name hides nothing
			btrfstest.Run(r, "btrfs", "subvolume", "delete", path)
			continue
		}
		hidden := filepath.Join(folder, "."+name)
		rename(r, path, hidden)
		defer rename(r, hidden, path)
	}
	remove(r, hold)
	return run.wait()
}

func TestFailedIncrementFallsBackToAnotherParentAndAtLastToACompleteCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.heals()
	snapshots := filepath.Join(r.source, "snapshot")
	for _, test := range []struct {
		name, folder string
		fail         int // increments, before one works
	}{
		{"no failure", snapshots, 0},
		{"a parent is gone at the source", snapshots, 1},
		{"both parents are gone at the source", snapshots, 2},
		{"a parent is gone at the destination", r.destination, 1},
		{"both parents are gone at the destination", r.destination, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := r.in(t)
			r.change()
			all := r.snapshots()
			ladder := []string{all[len(all)-1], all[len(all)-2], ""}
			told := []string{"trying an increment to " + ladder[1], "trying a complete copy"}[:test.fail]
			run := r.withoutParents(test.folder, ladder[:test.fail])
			expect(t, exitDone, run, append(told, "sending "+r.newest()+" as "+upon(ladder[test.fail]))...)
			r.isSaved(r.destination)
			r.hasParent(ladder[test.fail])
			r.heals()
		})
	}
}

// hasParent fails the test unless the newest backup is an increment to this one, or a complete copy.
func (r *rig) hasParent(name string) {
	r.Helper()
	want := "-"
	if name != "" {
		want = uuid(r, "UUID", filepath.Join(r.destination, name))
	}
	if got := uuid(r, "Parent UUID", filepath.Join(r.destination, r.newest())); got != want {
		r.Errorf("its parent is %s instead of %s (%s)", got, want, name)
	}
}

// upon is how a transfer with a parent is told, or without one.
func upon(parent string) string {
	if parent == "" {
		return "a complete copy"
	}
	return "an increment to " + parent
}
