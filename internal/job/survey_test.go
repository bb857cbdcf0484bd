package job

import (
	"errors"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
)

func TestOfASetThatCountsWhichEveryMemberHas(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 6, day, 12, 0, 0, 0, time.Local) }
	var naming engine.Naming
	member := func(created time.Time, days ...int) *engine.Standing {
		var names []string
		for _, day := range days {
			names = append(names, naming.Name(at(day)))
		}
		return &engine.Standing{Created: created, Destinations: []engine.StandingAt{{Complete: names, Kept: naming.SumUp(at(30), names)}}}
	}
	failed := member(at(1), 1, 2)
	failed.Destinations[0] = engine.StandingAt{Kept: plan.Kept{Newest: at(1)}, Err: errors.New("no answer")}
	for _, test := range []struct {
		claim   string
		members []*engine.Standing
		number  int
		newest  time.Time
	}{
		{"all have both", []*engine.Standing{member(at(1), 1, 2), member(at(1), 1, 2)}, 2, at(2)},
		{"one lacks the newest", []*engine.Standing{member(at(1), 1, 2), member(at(1), 1)}, 1, at(1)},
		{"one has another one", []*engine.Standing{member(at(1), 1, 2), member(at(1), 3)}, 0, time.Time{}},
		{"one that is as old has none", []*engine.Standing{member(at(1), 1, 2), member(at(1))}, 0, time.Time{}},
		{"a directory has none", []*engine.Standing{member(at(1), 1, 2), member(time.Time{})}, 0, time.Time{}},
		{"one that is newer has none yet", []*engine.Standing{member(at(1), 1, 2), member(at(3))}, 2, at(2)},
		{"none has any", []*engine.Standing{member(at(1)), member(at(3))}, 0, time.Time{}},
		{"one gives no answer", []*engine.Standing{member(at(1), 1, 2), failed}, 0, at(1)},
	} {
		got := common(test.members, 0, naming, at(30))
		if got.Number != test.number || !got.Newest.Equal(test.newest) || (got.Err != nil) != (test.members[1] == failed) {
			t.Errorf("%s: %+v", test.claim, got)
		}
	}
}
