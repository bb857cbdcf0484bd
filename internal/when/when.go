// Package when reads dates as people type them: "2026-11-28", "yesterday 14:00", "3 days ago", "2y". It is pure: the result depends on
// the text, the time that it is now, and the location of that. A date that could mean two days is refused.
package when

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Examples show what is understood.
const Examples = `"2026-11-28", "2026-11-28 14:00", "20261128-013000", "yesterday", "monday", "3 days ago", "12h" or "2y"`

// A Span is what a text names: a day, a minute, or a single moment, of which both ends are the same. Both ends belong to it.
type Span struct{ First, Last time.Time }

// Parse reads a text. Lengths of time such as "2y" are counted back from now, by the calendar; times of day are those of now's location.
func Parse(text string, now time.Time) (Span, error) {
	words := strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, read := range []func(string, time.Time) (Span, bool, error){relative, ago, absolute} {
		if s, ok, err := read(words, now); ok {
			return s, complain(text, err)
		}
	}
	return Span{}, complain(text, fmt.Errorf("this is no date"))
}

// Before tells that t is older than all that the text names.
func (s Span) Before(t time.Time) bool { return t.Before(s.First) }

// Reached tells that t is not younger than what the text names: a whole day counts until its end.
func (s Span) Reached(t time.Time) bool { return !t.After(s.Last) }

// complain adds what is understood to an error.
func complain(text string, err error) error {
	if err == nil {
		return nil
	}
	return hint.New(fmt.Errorf("%q: %w", text, err), "write a date as "+Examples)
}

// layout is a way to write a date, and what such a date names.
type layout struct {
	text string
	last func(first time.Time) time.Time // begin of what comes after it
}

func plus(d time.Duration) func(time.Time) time.Time {
	return func(t time.Time) time.Time { return t.Add(d) }
}

func plusDate(years, months, days int) func(time.Time) time.Time {
	return func(t time.Time) time.Time { return t.AddDate(years, months, days) }
}

var second, minute, day = plus(time.Second), plus(time.Minute), plusDate(0, 0, 1)

// absolutes are the dates of ISO 8601 with their usual variants, those in names of snapshots, and those without ambiguity that people
// write.
var absolutes = []layout{
	{"2006-01-02", day}, {"2006-1-2", day}, {"20060102", day}, {"2.1.2006", day}, {"2 Jan 2006", day}, {"2 January 2006", day},
	{"Jan 2, 2006", day}, {"January 2, 2006", day}, {"Jan 2 2006", day},
	{"2006-01", plusDate(0, 1, 0)}, {"Jan 2006", plusDate(0, 1, 0)}, {"January 2006", plusDate(0, 1, 0)}, {"2006", plusDate(1, 0, 0)},
	{"20060102-150405", second}, {"20060102-1504", minute}, {"20060102t150405", second}, {"20060102t1504", minute},
	{"20060102t150405Z0700", second},
	{"2006-01-02t15:04:05", second}, {"2006-01-02t15:04", minute}, {"2006-01-02t15:04:05Z07:00", second}, {"2006-01-02t15:04Z07:00", minute},
	{"2006-01-02 15:04:05Z07:00", second}, {"2006-01-02 15:04:05 -0700", second}, {"2006-01-02 15:04:05 -07:00", second},
}

var clocks = []layout{{"15:04:05", second}, {"15:04", minute}}

// ofDay are the ways to write a day before a time of day.
var ofDay = []string{"2006-01-02", "2006-1-2", "20060102", "2.1.2006", "2 Jan 2006", "2 January 2006", "Jan 2, 2006", "January 2, 2006", "Jan 2 2006"}

var slashes = regexp.MustCompile(`^\d{1,4}/\d{1,2}/\d{1,4}\b`)

func absolute(text string, now time.Time) (Span, bool, error) {
	if slashes.MatchString(text) {
		return Span{}, true, fmt.Errorf("whether the day or the month comes first is not clear")
	}
	for _, l := range absolutes {
		if s, ok := l.read(text, now); ok {
			return s, true, nil
		}
	}
	for _, date := range ofDay {
		for _, clock := range clocks {
			l := layout{date + " " + clock.text, clock.last}
			if s, ok := l.read(strings.Replace(text, " at ", " ", 1), now); ok {
				return s, true, nil
			}
		}
	}
	return Span{}, false, nil
}

func (l layout) read(text string, now time.Time) (Span, bool) {
	t, err := time.ParseInLocation(l.text, zoned(text, l.text), now.Location())
	if err != nil {
		return Span{}, false
	}
	t = t.In(now.Location())
	return Span{t, l.last(t).Add(-1)}, true
}

// zoned writes the Z of UTC as package time wants it.
func zoned(text, layout string) string {
	if before, ok := strings.CutSuffix(text, "z"); ok && strings.Contains(layout, "Z07") {
		return before + "Z"
	}
	return text
}

// relative reads days by name, with or without a time of day, and times of today.
func relative(text string, now time.Time) (Span, bool, error) {
	if text == "now" {
		return Span{now, now}, true, nil
	}
	name, clock, _ := strings.Cut(text, " ")
	if name == "last" {
		name, clock, _ = strings.Cut(clock, " ")
	}
	date, ok := named(name, now)
	if !ok {
		name, clock, date = "", text, now
	}
	y, m, d := date.Date()
	if clock = strings.TrimPrefix(clock, "at "); clock == "" && name != "" {
		first := time.Date(y, m, d, 0, 0, 0, 0, now.Location())
		return Span{first, first.AddDate(0, 0, 1).Add(-1)}, true, nil
	}
	for _, l := range clocks {
		if at, err := time.Parse(l.text, clock); err == nil {
			first := time.Date(y, m, d, at.Hour(), at.Minute(), at.Second(), 0, now.Location())
			return Span{first, l.last(first).Add(-1)}, true, nil
		}
	}
	return Span{}, false, nil
}

// named gives a day by its name; a day of the week is the last one before today.
func named(name string, now time.Time) (time.Time, bool) {
	switch name {
	case "today":
		return now, true
	case "yesterday":
		return now.AddDate(0, 0, -1), true
	}
	for back := 1; back <= 7; back++ {
		date := now.AddDate(0, 0, -back)
		if weekday := strings.ToLower(date.Weekday().String()); name == weekday || name == weekday[:3] {
			return date, true
		}
	}
	return time.Time{}, false
}
