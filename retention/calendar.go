package retention

import "time"

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

// A period is one hour, day, week, month, quarter or year.
type period struct{ year, part, offset int }

// periodOf gives the period that holds t, by the clock of its location. An hour that is repeated when the clock is set back
// is two hours.
func (p Policy) periodOf(u Unit, t time.Time) period {
	if u == Hour {
		_, offset := t.Zone()
		return period{t.Year(), t.YearDay()*24 + t.Hour(), offset}
	}
	// the time that the clock shows, as if no clock were ever set
	civil := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC).Add(-p.DayStart)
	switch u {
	case Day:
		return period{civil.Year(), civil.YearDay(), 0}
	case Week:
		sinceStart := (int(civil.Weekday()) + 6 - p.WeekStart + 7) % 7
		first := civil.AddDate(0, 0, -sinceStart)
		return period{first.Year(), first.YearDay(), 0}
	case Month:
		return period{civil.Year(), int(civil.Month()), 0}
	case Quarter:
		return period{civil.Year(), (int(civil.Month()) - 1) / 3, 0}
	default:
		return period{civil.Year(), 0, 0}
	}
}
