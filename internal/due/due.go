// Package due tells when a job is to run again, from the date of its newest complete backup. It knows no clock, no file and no
// job: truth is what lies at the destinations, and a state that is lost costs nothing.
//
// Dates are those of the start of a backup. Whatever was missed, one run makes up for it.
package due

import (
	"time"
)

// slack is how much earlier than its length an interval counts as over: a timer does not strike to the second.
func (e Every) slack() time.Duration { return min(e.Length/10, 10*time.Minute) }

// Due tells whether a run is due: no backup is dated in the current period, by the clock of now's location; or since the newest
// a duration has passed, but for a slack of a tenth and at most ten minutes.
//
// A newest backup that is dated after now, since the clock was set back, is no backup of the present: a run is due. Whoever asks
// gives the newest that is not, as engine.Survey does, so that this one run ends it.
func (e Every) Due(now, newest time.Time) bool {
	switch {
	case newest.IsZero() || newest.After(now):
		return true
	case e.calendar:
		return e.Calendar.Period(e.unit, newest.In(now.Location())).Before(e.Calendar.Period(e.unit, now))
	}
	return now.Sub(newest) >= e.Length-e.slack()
}

// Next gives the first time from now on at which a run is due.
func (e Every) Next(now, newest time.Time) time.Time {
	switch {
	case e.Due(now, newest):
		return now
	case e.calendar:
		return e.Calendar.End(e.unit, now)
	}
	return newest.Add(e.Length - e.slack()).In(now.Location())
}

// MaxAge gives the age from which a newest backup is late unless something else is said: two runs did not make one.
func (e Every) MaxAge() time.Duration { return 2*e.Length + e.slack() }

// RetryAfter tells how long after the start of the last of so many failures in a row the next attempt is made.
func RetryAfter(failures int, every Every) time.Duration {
	waits := []time.Duration{0, 5 * time.Minute, 15 * time.Minute, time.Hour, max(time.Hour, every.Length/4)}
	wait := waits[min(max(failures, 0), len(waits)-1)]
	if every.IsZero() {
		return wait
	}
	return min(wait, every.Length)
}
