// Package retention decides which snapshots are kept. It is pure: it knows no filesystem, and is told the time.
//
// Whatever the policy says, three kinds are kept: the newest snapshot, snapshots that somebody holds, and snapshots dated in
// the future. The last take no part in counting, so that a clock that was wrong for a while deletes nothing.
//
// Of a period of the calendar the oldest snapshot is kept, and only periods that hold a snapshot are counted. So a snapshot that
// a policy gives up is never missed later, however often the policy is applied, and a machine that was off loses nothing.
package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Snapshot is what a policy is applied to.
type Snapshot struct {
	Name     string
	Time     time.Time
	DateOnly bool     // the time of the day is not known
	Number   int      // among those of the same time, in their order
	Holds    []string // why it must stay, in words; none for most
}

// Merge gives one snapshot for each name, which all that holds one of that name holds.
func Merge(lists ...[]Snapshot) (merged []Snapshot) {
	at := make(map[string]int)
	for _, s := range slices.Concat(lists...) {
		i, again := at[s.Name]
		if !again {
			i, at[s.Name] = len(merged), len(merged)
			first := s
			first.Holds = nil
			merged = append(merged, first)
		}
		for _, why := range s.Holds {
			if !slices.Contains(merged[i].Holds, why) {
				merged[i].Holds = append(merged[i].Holds, why)
			}
		}
	}
	return merged
}

// A Verdict is the decision on one snapshot.
type Verdict struct {
	Name    string   `json:"name"`
	Keep    bool     `json:"keep"`
	Reasons []string `json:"reasons"` // never empty
	Held    bool     `json:"-"`       // it is kept for a reason that no policy knows
}

// String gives the verdict as a sentence.
func (v Verdict) String() string {
	verb := "delete"
	if v.Keep {
		verb = "keep"
	}
	return fmt.Sprintf("%s %s: %s", verb, v.Name, strings.Join(v.Reasons, ", "))
}

// Decide gives one verdict for each snapshot, oldest first. Periods are those of now's location.
func Decide(policy Policy, now time.Time, snapshots []Snapshot) []Verdict {
	sorted := slices.SortedFunc(slices.Values(snapshots), byTime)
	past := len(sorted)
	for past > 0 && sorted[past-1].Time.After(now) {
		past--
	}
	kept, instead := policy.keep(now, sorted[:past])
	verdicts := make([]Verdict, len(sorted))
	for i, s := range sorted {
		reasons := slices.Clone(s.Holds)
		switch {
		case i >= past:
			reasons = append(reasons, "dated in the future")
		case policy.keepsAll():
			reasons = append(reasons, "no limit set")
		default:
			reasons = append(reasons, kept[i]...)
		}
		verdicts[i] = Verdict{Name: s.Name, Keep: len(reasons) > 0, Reasons: reasons, Held: len(s.Holds) > 0}
		if len(reasons) == 0 {
			verdicts[i].Reasons = []string{cmp.Or(instead[i], policy.tooOld())}
		}
	}
	return verdicts
}

func byTime(a, b Snapshot) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name))
}

// keep applies the terms to snapshots in the order of time. It gives the reasons to keep each, and of one that is another's
// equal in some period, which one is kept of that.
func (p Policy) keep(now time.Time, past []Snapshot) (kept [][]string, instead []string) {
	kept, instead = make([][]string, len(past)), make([]string, len(past))
	young := p.Within.before(now)
	for i, s := range past {
		switch rank := len(past) - i; {
		case rank == 1:
			kept[i] = append(kept[i], "the newest")
		case rank <= p.Last:
			kept[i] = append(kept[i], fmt.Sprintf("number %d of the newest %d", rank, p.Last))
		}
		if p.Within.N > 0 && !p.Btrbk && s.Time.After(young) {
			kept[i] = append(kept[i], fmt.Sprintf("younger than %d%c", p.Within.N, letters[p.Within.Unit]))
		}
	}
	if p.Btrbk {
		p.keepByAge(now, past, kept, instead)
		return kept, instead
	}
	for u, most := range p.Of {
		if most != 0 {
			p.keepOldest(Unit(u), most, now.Location(), past, kept, instead)
		}
	}
	return kept, instead
}

// keepOldest keeps the oldest snapshot of each of the newest periods that hold any.
func (p Policy) keepOldest(u Unit, most int, zone *time.Location, past []Snapshot, kept [][]string, instead []string) {
	of := "all"
	if most != All {
		of = fmt.Sprint(most)
	}
	periods := 0
	for end := len(past); end > 0 && periods != most; {
		periods++
		in := p.Period(u, past[end-1].Time.In(zone))
		oldest := end - 1
		for oldest > 0 && p.Period(u, past[oldest-1].Time.In(zone)) == in {
			oldest--
		}
		kept[oldest] = append(kept[oldest], fmt.Sprintf("%s %d of %s", u, periods, of))
		for i := oldest + 1; i < end; i++ {
			instead[i] = fmt.Sprintf("of its %s, %s is kept", u, past[oldest].Name)
		}
		end = oldest
	}
}

// tooOld is the reason to delete what none of the terms reaches.
func (p Policy) tooOld() string {
	if p == (Policy{Last: p.Last}) {
		return fmt.Sprintf("older than the newest %d", p.Last)
	}
	return "older than " + p.String() + " reaches"
}
