package due

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"btrfs-backup/internal/hint"
	"btrfs-backup/retention"
)

// Every says how often a job runs: once in each period of the calendar, or when a duration has passed. The zero value says
// nothing.
type Every struct {
	Length   time.Duration      // of a period of the calendar, the longest
	Calendar retention.Calendar // of a period

	unit     retention.Unit
	calendar bool // a period, no duration
}

// IsZero tells that nothing is said.
func (e Every) IsZero() bool { return e.Length == 0 }

const day = 24 * time.Hour

type period struct {
	name   string
	length time.Duration
}

// periods are those of the calendar, by unit.
var periods = [...]period{
	retention.Hour:    {"hourly", time.Hour},
	retention.Day:     {"daily", day},
	retention.Week:    {"weekly", 7 * day},
	retention.Month:   {"monthly", 31 * day},
	retention.Quarter: {"quarterly", 92 * day},
	retention.Year:    {"yearly", 366 * day},
}

type unit struct {
	letter string
	length time.Duration
}

// units are those of a duration, the longest first.
var units = []unit{{"w", 7 * day}, {"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

// Grammar shows how an interval is written.
const Grammar = `hourly, daily, weekly, monthly, quarterly or yearly; or a number of minutes, hours, days or weeks such as 15m, 6h, 2d, 1w`

const (
	shortest = time.Minute
	longest  = 10 * 366 * day
)

var duration = regexp.MustCompile(`^(\d+)([wdhms])$`)

// Parse reads an interval: a name among the given ones, which stand for intervals, or what Grammar says. A period may be
// followed by when days and weeks begin: "weekly week-start=sunday day-start=06:00".
func Parse(text string, named map[string]string) (Every, error) {
	name := strings.TrimSpace(text)
	meaning, isNamed := named[name]
	if !isNamed {
		return parse(name, slices.Sorted(maps.Keys(named)))
	}
	e, err := parse(strings.TrimSpace(meaning), nil)
	if err != nil {
		return Every{}, fmt.Errorf("interval %s: %w", name, err)
	}
	return e, nil
}

func parse(text string, names []string) (Every, error) {
	word, starts, _ := strings.Cut(text, " ")
	if u := slices.IndexFunc(periods[:], func(p period) bool { return p.name == word }); u >= 0 {
		begins, err := retention.ParseCalendar(starts)
		return Every{Length: periods[u].length, Calendar: begins, unit: retention.Unit(u), calendar: true}, err
	}
	found := duration.FindStringSubmatch(text)
	if found == nil {
		known := Grammar
		if len(names) > 0 {
			known += "; or one of " + strings.Join(names, ", ")
		}
		return Every{}, hint.New(fmt.Errorf("%q is no interval", text), known)
	}
	n, err := strconv.ParseInt(found[1], 10, 64)
	of := units[slices.IndexFunc(units, func(u unit) bool { return u.letter == found[2] })].length
	switch {
	case err != nil || n > int64(longest/of):
		return Every{}, hint.New(fmt.Errorf("%q is longer than ten years", text), "leave it out, and name the job when it shall run")
	case time.Duration(n)*of < shortest:
		return Every{}, hint.New(fmt.Errorf("%q is shorter than a minute", text), Grammar)
	}
	return Every{Length: time.Duration(n) * of}, nil
}

// String writes the interval as Parse reads it.
func (e Every) String() string {
	if e.IsZero() {
		return ""
	}
	if e.calendar {
		return strings.TrimSpace(periods[e.unit].name + " " + e.Calendar.String())
	}
	u := units[slices.IndexFunc(units, func(u unit) bool { return e.Length%u.length == 0 })]
	return fmt.Sprint(int64(e.Length/u.length), u.letter)
}
