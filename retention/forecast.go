package retention

import (
	"slices"
	"time"
)

// Forecast tells when the policy will give up each snapshot that it keeps now, if one more is made at each interval: the day of
// the run that deletes it. What stays until then is missing in the answer. Holds are taken to last.
func Forecast(policy Policy, now time.Time, snapshots []Snapshot, every time.Duration, until time.Time) map[string]time.Time {
	left := slices.Clone(snapshots)
	goes := make(map[string]time.Time)
	for at := now; !at.After(until); at = at.Add(every) {
		if at.After(now) {
			left = append(left, Snapshot{Time: at})
		}
		gone := make(map[string]bool)
		for _, v := range Decide(policy, at, left) {
			if !v.Keep && v.Name != "" {
				gone[v.Name] = true
				if at.After(now) {
					goes[v.Name] = at
				}
			}
		}
		left = slices.DeleteFunc(left, func(s Snapshot) bool { return gone[s.Name] })
	}
	return goes
}
