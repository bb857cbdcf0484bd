package due

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/retention"
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

// Name gives the word for a period of the calendar, and "" for anything else.
func (e Every) Name() string {
	if !e.calendar {
		return ""
	}
	return periods[e.unit].name
}

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

// Grammar shows how an interval is written.
const Grammar = `hourly, daily, weekly, monthly, quarterly or yearly; or a number of minutes, hours, days or weeks such as 15m, 6h, 2d, 1w`

const (
	shortest = time.Minute
	longest  = 10 * 366 * day
)

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
	length, err := ParseDuration(text)
	switch {
	case err != nil:
		known := Grammar
		if len(names) > 0 {
			known += "; or one of " + strings.Join(names, ", ")
		}
		return Every{}, hint.New(fmt.Errorf("%q is no interval", text), known)
	case length > longest:
		return Every{}, hint.New(fmt.Errorf("%q is longer than ten years", text), "leave it out, and name the job when it shall run")
	case length < shortest:
		return Every{}, hint.New(fmt.Errorf("%q is shorter than a minute", text), Grammar)
	}
	return Every{Length: length}, nil
}

// ParseDuration reads a time such as 90s, 26h, 2d or 3w.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if unit, ok := map[string]time.Duration{"d": day, "w": 7 * day}[text[max(len(text)-1, 0):]]; ok {
		var n int
		const most = 3660 // which time.Duration can hold
		if n, err = strconv.Atoi(text[:len(text)-1]); n > most {
			err = strconv.ErrRange
		}
		d = time.Duration(n) * unit
	}
	if err != nil || d < 0 {
		return 0, hint.New(fmt.Errorf("needs a time, not %q", text), "a time is a number and s, m, h, d or w, such as 26h")
	}
	return d, nil
}
