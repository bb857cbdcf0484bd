// Package retention decides which snapshots are kept. It is pure: it knows no filesystem, and is told the time.
//
// Whatever the policy says, three kinds are kept: the newest snapshot, snapshots that somebody holds, and snapshots dated in
// the future. The last take no part in counting, so that a clock that was wrong for a while deletes nothing.
package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Policy says what to keep. The zero Policy keeps everything.
type Policy struct {
	Last int // keep this many of the newest; 0 or less: no limit
}

// A Snapshot is what a policy is applied to.
type Snapshot struct {
	Name  string
	Time  time.Time
	Holds []string // why it must stay, in words; none for most
}

// A Verdict is the decision on one snapshot.
type Verdict struct {
	Name    string   `json:"name"`
	Keep    bool     `json:"keep"`
	Reasons []string `json:"reasons"` // never empty
}

// String gives the verdict as a sentence.
func (v Verdict) String() string {
	verb := "delete"
	if v.Keep {
		verb = "keep"
	}
	return fmt.Sprintf("%s %s: %s", verb, v.Name, strings.Join(v.Reasons, ", "))
}

// Decide gives one verdict for each snapshot, oldest first.
func Decide(policy Policy, now time.Time, snapshots []Snapshot) []Verdict {
	sorted := slices.SortedFunc(slices.Values(snapshots), func(a, b Snapshot) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Name, b.Name))
	})
	return decide(policy, sorted, func(s Snapshot) bool { return s.Time.After(now) })
}

// DecideInOrder gives one verdict for each snapshot. They are given oldest first, and their times do not count: whoever names
// them is not trusted.
func DecideInOrder(policy Policy, snapshots []Snapshot) []Verdict {
	return decide(policy, snapshots, func(Snapshot) bool { return false })
}

func decide(policy Policy, sorted []Snapshot, inFuture func(Snapshot) bool) []Verdict {
	verdicts := make([]Verdict, len(sorted))
	rank := 0 // 1 for the newest that is not dated in the future
	for i, s := range slices.Backward(sorted) {
		future := inFuture(s)
		if !future {
			rank++
		}
		reasons := keepReasons(policy, s, rank, future)
		verdicts[i] = Verdict{Name: s.Name, Keep: len(reasons) > 0, Reasons: reasons}
		if len(reasons) == 0 {
			verdicts[i].Reasons = []string{fmt.Sprintf("older than the newest %d", policy.Last)}
		}
	}
	return verdicts
}

func keepReasons(policy Policy, s Snapshot, rank int, future bool) []string {
	reasons := slices.Clone(s.Holds)
	switch {
	case future:
		reasons = append(reasons, "dated in the future")
	case policy.Last <= 0:
		reasons = append(reasons, "no limit set")
	case rank == 1:
		reasons = append(reasons, "the newest")
	case rank <= policy.Last:
		reasons = append(reasons, fmt.Sprintf("number %d of the newest %d", rank, policy.Last))
	}
	return reasons
}
