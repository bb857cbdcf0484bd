package main

import (
	"fmt"
	"path/filepath"
	"testing"
)

// withoutParents runs while snapshots are away that it is about to build upon.
func (r *rig) withoutParents(away []string) result {
	r.Helper()
	hold := makeDir(r, filepath.Join(r.TempDir(), "hold"))
	run := start(r, r.command([]string{testOnlyHoldAt + "=receive begun=" + hold}))
	run.says(heldAt + "receive begun")
	for _, name := range away {
		path, hidden := filepath.Join(r.source, "snapshot", name), filepath.Join(r.source, "snapshot", "."+name)
		rename(r, path, hidden)
		defer rename(r, hidden, path)
	}
	remove(r, hold)
	return run.wait()
}

// refuseCalls gives a script for receive that fails for the first calls.
func refuseCalls(n int) string {
	return fmt.Sprintf(`test $call -gt %d || { echo "ERROR: cannot find parent subvolume" >&2; exit 1; }`, n)
}

func TestFailedIncrementFallsBackToAnotherParentAndAtLastToACompleteCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.heals()
	for _, test := range []struct {
		name     string
		bySender bool
		fail     int // increments, before one works
	}{
		{"no failure", true, 0},
		{"a parent is gone at the source", true, 1},
		{"both parents are gone at the source", true, 2},
		{"the receiver refuses a parent", false, 1},
		{"the receiver refuses both parents", false, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := r.in(t)
			r.change()
			all := r.snapshots()
			ladder := []string{all[len(all)-1], all[len(all)-2], ""}
			told := []string{"trying an increment to " + ladder[1], "trying a complete copy"}[:test.fail]
			var run result
			if test.bySender {
				run = r.withoutParents(ladder[:test.fail])
			} else {
				run = r.run(newShim(t, refuseCalls(test.fail)).environ())
			}
			expect(t, exitDone, run, append(told, "sending "+r.newest()+" as "+upon(ladder[test.fail]))...)
			r.isSaved(r.destination)
			r.hasParent(ladder[test.fail])
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
