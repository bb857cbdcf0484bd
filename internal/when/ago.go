package when

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	length  = regexp.MustCompile(`^(?:(?:\d+ ?|an? )[a-z]+(?:,? (?:and )?|$)?)+$`)
	term    = regexp.MustCompile(`(\d+|\ban?\b) ?([a-z]+)`)
	spelled = []struct {
		unit  unit
		names string
	}{
		{unit{of: time.Second}, "s sec secs second seconds"},
		{unit{of: time.Minute}, "min mins minute minutes"},
		{unit{of: time.Hour}, "h hour hours"},
		{unit{days: 1}, "d day days"},
		{unit{days: 7}, "w week weeks"},
		{unit{months: 1}, "m mo month months"}, // m as in policies
		{unit{months: 3}, "q quarter quarters"},
		{unit{months: 12}, "y year years"},
	}
)

func unitOf(name string) (unit, bool) {
	for _, s := range spelled {
		if slices.Contains(strings.Fields(s.names), name) {
			return s.unit, true
		}
	}
	return unit{}, false
}

// A unit is a length of time, of which only one part is not zero.
type unit struct {
	of           time.Duration
	days, months int
}

// most is how much of a unit is understood: a number beyond it is a typing error.
const most = 100_000

// ago reads lengths of time such as "2y", "1 year 6 months ago" or "an hour ago".
func ago(text string, now time.Time) (Span, bool, error) {
	text, _ = strings.CutSuffix(text, " ago")
	if !length.MatchString(text) {
		return Span{}, false, nil
	}
	t := now
	for _, found := range term.FindAllStringSubmatch(text, -1) {
		u, ok := unitOf(found[2])
		if !ok {
			return Span{}, true, fmt.Errorf("%q is no unit of time", found[2])
		}
		n := 1
		if found[1][0] != 'a' {
			var err error
			if n, err = strconv.Atoi(found[1]); err != nil || n > most {
				return Span{}, true, fmt.Errorf("%s is too long ago", found[1]+" "+found[2])
			}
		}
		t = u.before(t, n)
	}
	if t.Year() < 1 {
		return Span{}, true, errors.New("this is too long ago")
	}
	return Span{t, t}, true, nil
}

// before counts back. A day that a month does not have is its last one.
func (u unit) before(t time.Time, n int) time.Time {
	t = t.Add(-time.Duration(n)*u.of).AddDate(0, 0, -n*u.days)
	if u.months == 0 {
		return t
	}
	back := t.AddDate(0, -n*u.months, 0)
	if back.Day() != t.Day() {
		back = back.AddDate(0, 0, -back.Day())
	}
	return back
}
