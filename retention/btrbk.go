package retention

import (
	"errors"
	"fmt"
	"time"
)

// Btrbk is the name of btrbk's rule in a policy.
const Btrbk = "btrbk"

var errNoQuarters = errors.New("btrbk's rule knows no quarters")

// As gives the policy as it is under a rule: "" is the one of this package. A policy that keeps all does so under each.
func (p Policy) As(rule string) (Policy, error) {
	switch {
	case rule == "" || p.keepsAll():
		return p, nil
	case rule != Btrbk:
		return p, fmt.Errorf("%q is no rule", rule)
	case p.Of[Quarter] != 0 || p.Within.N > 0 && p.Within.Unit == Quarter:
		return p, errNoQuarters
	case p.DayStart%time.Hour != 0:
		return p, errors.New("days begin at a full hour under btrbk's rule")
	}
	p.Btrbk = true
	return p, nil
}

// PeriodOf gives the period in which the policy counts a snapshot, by the clock of a zone. Two of one unit are the same, or not; which
// comes first only a Calendar's tell.
func (p Policy) PeriodOf(u Unit, s Snapshot, zone *time.Location) Period {
	if !p.Btrbk {
		return p.Period(u, s.Time.In(zone))
	}
	return Period{year: p.ageOf(time.Date(2200, 1, 1, 0, 0, 0, 0, zone), s)[u]}
}

// hierarchy are the units of btrbk's cascade: what is kept for one is chosen among those that are the first in the one before.
var hierarchy = []Unit{Hour, Day, Week, Month, Year}

// An age tells for each unit how many periods back from now a snapshot was taken.
type age [units]int

// ageOf counts by the fields of the clock, so that a change of the clock counts for nothing. A month begins with the first
// week that begins in it, and a year with that of January, but now's month is that of the calendar.
func (p Policy) ageOf(now time.Time, s Snapshot) (a age) {
	t := s.Time.In(now.Location())
	hour, weekday := t.Hour(), (int(t.Weekday())+6-p.weekStart(sunday)+7)%7 // after the start of the day, and the week
	if !s.DateOnly {
		hour -= int(p.DayStart / time.Hour)
	}
	if hour < 0 {
		hour += 24
		weekday--
	}
	if weekday < 0 {
		weekday += 7
	}
	month := t.Year()*12 + int(t.Month()) - 1
	if t.Day() <= weekday {
		month--
	}
	a[Hour] = int(civilHour(now).Sub(civilHour(t)) / time.Hour)
	a[Day] = (a[Hour] + hour) / 24
	a[Week] = (a[Day] + weekday) / 7
	a[Month] = now.Year()*12 + int(now.Month()) - 1 - month
	a[Year] = now.Year() - month/12
	return a
}

// civilHour is the hour that the clock shows, as if no clock were ever set.
func civilHour(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, time.UTC)
}

// keepByAge applies the terms by btrbk's cascade to snapshots in the order of time: a count is one of periods back from now,
// with or without a snapshot in them.
func (p Policy) keepByAge(now time.Time, past []Snapshot, kept [][]string, instead []string) {
	ages := make([]age, len(past))
	left := make([]int, len(past)) // those that are the first in all units so far
	for i, s := range past {
		ages[i], left[i] = p.ageOf(now, s), i
		if w := p.Within; w.N > 0 && ages[i][w.Unit] <= w.N {
			kept[i] = append(kept[i], fmt.Sprintf("at most %d%c back", w.N, letters[w.Unit]))
		}
	}
	first := make(map[int]int) // of its period, for each that is not
	of := make(map[int]Unit)
	for _, u := range hierarchy {
		var next []int
		for _, i := range left {
			if n := len(next); n > 0 && ages[next[n-1]][u] == ages[i][u] {
				first[i], of[i] = next[n-1], u
				continue
			}
			next = append(next, i)
			if most := p.Of[u]; most == All || most > 0 && ages[i][u] <= most {
				kept[i] = append(kept[i], fmt.Sprintf("first of its %s (%d back)", u, ages[i][u]))
			}
		}
		left = next
	}
	for i, other := range first {
		if len(kept[other]) > 0 {
			instead[i] = fmt.Sprintf("of its %s, %s is kept", of[i], past[other].Name)
		}
	}
}
