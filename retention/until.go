package retention

import "time"

// mostYears stand for ever.
const mostYears = 10

// Until gives a time at which the policy has given up a version of t, or is about to: one that is the oldest of its periods of the
// units, if another is made at each interval. What a policy keeps for ever counts as kept for ten years.
func (p Policy) Until(t time.Time, oldestOf []Unit, every time.Duration) time.Time {
	most := t.AddDate(mostYears, 0, 0)
	if p.keepsAll() {
		return most
	}
	ever := int(most.Sub(t) / max(every, time.Second))
	until := t.Add(every * time.Duration(min(max(p.Last, 1), ever)))
	if n := p.Within.N; n > 0 {
		if p.Btrbk {
			n++ // whole periods back
		}
		until = later(until, Span{-n, p.Within.Unit}.before(t))
	}
	for _, u := range oldestOf {
		switch n := p.Of[u]; {
		case n == All:
			until = most
		case n > 0:
			until = later(until, p.endAfter(u, t, n-1).Add(every)) // the first one of the next period makes it go
			if !p.Btrbk {                                          // periods count in which there is one
				until = later(until, t.Add(every*time.Duration(min(n, ever))))
			}
		}
	}
	if until.After(most) {
		return most
	}
	return until
}

// EndOf gives a time at which the period that holds t is over, by the clock of its location, as PeriodOf counts.
func (p Policy) EndOf(u Unit, t time.Time) time.Time { return p.endAfter(u, t, 0) }

// endAfter gives the end of the nth period after the one that holds t. Longer periods of btrbk's may end with a week, and it counts those
// that are over.
func (p Policy) endAfter(u Unit, t time.Time, n int) time.Time {
	end := p.End(u, t)
	if p.Btrbk {
		n++
		if u >= Week {
			end = end.AddDate(0, 0, 7)
		}
	}
	return Span{-n, u}.before(end)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
