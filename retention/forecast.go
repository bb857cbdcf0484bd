package retention

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const toCome = "/" // begins the names of those that are not made yet; in no other name

// Forecast tells when the policy will give up each snapshot that it keeps now, if one more is made at each interval: a time on
// the day of the run that deletes it. What stays until then is missing in the answer. Holds are taken to last, but
// for those on the newest, which pass on to the next.
//
// How often a policy is applied makes no difference, so once a day will do.
func Forecast(policy Policy, now time.Time, snapshots []Snapshot, every time.Duration, until time.Time) map[string]time.Time {
	goes := make(map[string]time.Time)
	mayGo := func(s Snapshot) bool { return !strings.HasPrefix(s.Name, toCome) && len(s.Holds) == 0 }
	foresee(policy, now, snapshots, every, until, func(at time.Time, gone string) {
		if at.After(now) {
			goes[gone] = at
		}
	}, func(left []Snapshot) bool { return slices.ContainsFunc(left, mayGo) })
	maps.DeleteFunc(goes, func(name string, _ time.Time) bool { return strings.HasPrefix(name, toCome) })
	return goes
}

// Outlook gives what the policy will have left at a time, oldest first, as Forecast foresees it. Those that are not made yet have no name.
func Outlook(policy Policy, now time.Time, snapshots []Snapshot, every time.Duration, at time.Time) []Snapshot {
	left := foresee(policy, now, snapshots, every, at, func(time.Time, string) {}, func([]Snapshot) bool { return true })
	for i := range left {
		if strings.HasPrefix(left[i].Name, toCome) {
			left[i].Name = ""
		}
	}
	return left
}

// foresee makes a snapshot at each interval and applies the policy, as long as it goes on. It tells of each that goes, and gives what is
// left in the end.
func foresee(policy Policy, now time.Time, snapshots []Snapshot, every time.Duration, until time.Time,
	gone func(at time.Time, name string), goOn func(left []Snapshot) bool,
) []Snapshot {
	left := slices.SortedFunc(slices.Values(snapshots), byTime)
	for i, s := range slices.Backward(left) {
		if !s.Time.After(now) {
			left[i].Holds = nil
			break
		}
	}
	for at, next := now, now; !at.After(until) && goOn(left); at = next {
		if next = at.Add(every); at.After(now) {
			left = append(left, Snapshot{Name: toCome + at.UTC().String(), Time: at})
		}
		if every < 24*time.Hour && next.YearDay() == at.YearDay() && at.After(now) && !next.After(until) {
			continue
		}
		goes := make(map[string]bool)
		for _, v := range Decide(policy, at, left) {
			if goes[v.Name] = !v.Keep; !v.Keep {
				gone(at, v.Name)
			}
		}
		left = slices.DeleteFunc(left, func(s Snapshot) bool { return goes[s.Name] })
	}
	return left
}

// Interval tells how often snapshots are made: the usual distance of the newest ones, but no less than an hour. Of those dated in
// the future it knows nothing; with fewer than two, it is a day.
func Interval(now time.Time, snapshots []Snapshot) time.Duration {
	const newest = 15 // so many distances, of which the middle one is usual
	var times []time.Time
	for _, s := range snapshots {
		if !s.Time.After(now) {
			times = append(times, s.Time)
		}
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	var distances []time.Duration
	for i := 1; i < min(len(times), newest+1); i++ {
		distances = append(distances, times[i-1].Sub(times[i]))
	}
	if len(distances) == 0 {
		return 24 * time.Hour
	}
	slices.Sort(distances)
	return max(distances[len(distances)/2], time.Hour)
}
