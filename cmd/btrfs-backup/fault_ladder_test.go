package main

import (
	"fmt"
	"testing"
)

// refuseParents gives a script for send that fails for the given parents.
func refuseParents(names []string) string {
	script := `case "$*" in `
	for _, name := range names {
		script += `*" -p "*/` + name + `" "*) echo "ERROR: cannot use ` + name + `" >&2; exit 1 ;; `
	}
	return script + "esac"
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
		{"the sender refuses a parent", true, 1},
		{"the sender refuses both parents", true, 2},
		{"the receiver refuses a parent", false, 1},
		{"the receiver refuses both parents", false, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := r.in(t)
			r.change()
			all := r.snapshots()
			ladder := []string{all[len(all)-1], all[len(all)-2], ""}
			s := newShim(t, refuseParents(ladder[:test.fail]), "")
			if !test.bySender {
				s = newShim(t, "", refuseCalls(test.fail))
			}
			told := []string{"trying an increment to " + ladder[1], "trying a complete copy"}[:test.fail]
			run := expect(t, exitDone, r.run(s.environ(), "--json"), told...)
			if sent := sentTo(t, run, r.destination); len(sent) != 1 || sent[0].Parent != ladder[test.fail] {
				t.Errorf("sent %+v instead of one with the parent %q", sent, ladder[test.fail])
			}
			s.wasCalled(t, "send", test.fail+1)
			r.isSaved(r.destination)
		})
	}
}
