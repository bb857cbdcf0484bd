package retention

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// A Unit is a period of the calendar, in local time.
type Unit int

// The units, from the shortest to the longest.
const (
	Hour Unit = iota
	Day
	Week
	Month
	Quarter
	Year

	units = int(Year) + 1
)

var unitNames = [units]string{"hour", "day", "week", "month", "quarter", "year"}

func (u Unit) String() string { return unitNames[u] }

// A Calendar says when days and weeks begin. The zero one: at midnight, and on Monday.
type Calendar struct {
	WeekStart int           // the first day of a week: 1 (Monday) to 7; 0: the usual one
	DayStart  time.Duration // when a day begins: after midnight, less than 24 hours
}

var days = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// ParseCalendar reads terms such as "week-start=sunday day-start=06:00", as they stand in a policy.
func ParseCalendar(text string) (c Calendar, err error) {
	for _, word := range strings.Fields(text) {
		weekStart, isWeek := strings.CutPrefix(word, "week-start=")
		dayStart, isDay := strings.CutPrefix(word, "day-start=")
		switch {
		case isWeek:
			err = c.add(weekStart, "")
		case isDay:
			err = c.add("", dayStart)
		default:
			err = errors.New("is neither week-start=DAY nor day-start=HH:MM")
		}
		if err != nil {
			return Calendar{}, fmt.Errorf("%q: %w", word, err)
		}
	}
	return c, nil
}

// add takes the one of its terms that is given.
func (c *Calendar) add(weekStart, dayStart string) error {
	if weekStart != "" {
		if c.WeekStart = slices.Index(days, weekStart) + 1; c.WeekStart == 0 {
			return errors.New("is no day of the week")
		}
		return nil
	}
	at, err := time.Parse("15:04", dayStart)
	if err != nil {
		return errors.New("is no time of the day such as 06:00")
	}
	c.DayStart = at.Sub(at.Truncate(24 * time.Hour))
	return nil
}

// String writes the calendar as ParseCalendar reads it; "" is the zero one.
func (c Calendar) String() string {
	var terms []string
	if c.WeekStart > 0 {
		terms = append(terms, "week-start="+days[c.WeekStart-1])
	}
	if c.DayStart > 0 {
		terms = append(terms, fmt.Sprintf("day-start=%02d:%02d", int(c.DayStart.Hours()), int(c.DayStart.Minutes())%60))
	}
	return strings.Join(terms, " ")
}

const monday, sunday = 1, 7

// weekStart gives the first day of a week, in days after Monday.
func (c Calendar) weekStart(usual int) int { return cmp.Or(c.WeekStart, usual) - 1 }

// A Period is one hour, day, week, month, quarter or year.
type Period struct{ year, part, offset int }

// Period gives the period that holds t, by the clock of its location. An hour that is repeated when the clock is set back
// is two hours.
func (c Calendar) Period(u Unit, t time.Time) Period {
	if u == Hour {
		_, offset := t.Zone()
		return Period{t.Year(), t.YearDay()*24 + t.Hour(), offset}
	}
	// the time that the clock shows, as if no clock were ever set
	civil := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC).Add(-c.DayStart)
	switch u {
	case Day:
		return Period{civil.Year(), civil.YearDay(), 0}
	case Week:
		sinceStart := (int(civil.Weekday()) + 6 - c.weekStart(monday) + 7) % 7
		first := civil.AddDate(0, 0, -sinceStart)
		return Period{first.Year(), first.YearDay(), 0}
	case Month:
		return Period{civil.Year(), int(civil.Month()), 0}
	case Quarter:
		return Period{civil.Year(), (int(civil.Month()) - 1) / 3, 0}
	default:
		return Period{civil.Year(), 0, 0}
	}
}

// Before tells that p was over when q began. Both are periods of one unit.
func (p Period) Before(q Period) bool {
	// a clock that is set back has the larger offset first
	return cmp.Or(cmp.Compare(p.year, q.year), cmp.Compare(p.part, q.part), cmp.Compare(q.offset, p.offset)) < 0
}

// End gives the first second after the period that holds t.
func (c Calendar) End(u Unit, t time.Time) time.Time {
	now, from := c.Period(u, t), t.Truncate(time.Second)
	const longest = 367 * 24 * 60 * 60
	return from.Add(time.Duration(sort.Search(longest, func(seconds int) bool {
		return now.Before(c.Period(u, from.Add(time.Duration(seconds)*time.Second)))
	})) * time.Second)
}
