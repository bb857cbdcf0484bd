package due

import (
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

var named = map[string]string{"six-hourly": "6h", "workweek": " weekly week-start=friday ", "bad": "6x", "loop": "six-hourly"}

func TestIntervalsAreNamesOrTimes(t *testing.T) {
	for _, c := range []struct {
		text, calendar string
		length         time.Duration
	}{
		{"daily", "", 24 * time.Hour},
		{" hourly ", "", time.Hour},
		{"weekly  week-start=sunday  day-start=06:30", "week-start=sunday day-start=06:30", 7 * 24 * time.Hour},
		{"yearly", "", 366 * 24 * time.Hour},
		{"15m", "", 15 * time.Minute},
		{"1h30m", "", 90 * time.Minute},
		{"14d", "", 14 * 24 * time.Hour},
		{"six-hourly", "", 6 * time.Hour},
		{"workweek", "week-start=friday", 7 * 24 * time.Hour},
	} {
		if e, err := Parse(c.text, named); err != nil || e.Length != c.length || e.Calendar.String() != c.calendar {
			t.Errorf("%q is read as %+v: %v", c.text, e, err)
		}
	}
}

func TestATimeHasAUnit(t *testing.T) {
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "26h": 26 * time.Hour, "2d": 48 * time.Hour, "1w": 168 * time.Hour} {
		if got, err := ParseDuration(text); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-1h", "7", "9999999d", "1.5d", "two days"} {
		if got, err := ParseDuration(text); err == nil || hint.Of(err) == "" {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestWhatIsNoIntervalIsRefused(t *testing.T) {
	for _, c := range []struct{ text, want, hint string }{
		{"", "is no interval", "six-hourly"},
		{"6", "is no interval", "15m"},
		{"-6h", "is no interval", "15m"},
		{"dayly", "is no interval", "daily"},
		{"6h week-start=sunday", "is no interval", "15m"},
		{"0h", "shorter than a minute", "15m"},
		{"59s", "shorter than a minute", "15m"},
		{"11y", "is no interval", "yearly"},
		{"600w", "longer than ten years", "leave it out"},
		{"99999h", "longer than ten years", "leave it out"},
		{"daily week-start=someday", "no day of the week", ""},
		{"daily day-start=24:00", "no time of the day", ""},
		{"daily at noon", "neither", ""},
		{"bad", "interval bad", "15m"},
		{"loop", "interval loop", "15m"},
	} {
		e, err := Parse(c.text, named)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%q is read as %v: %v (hint: %s)", c.text, e, err, hint.Of(err))
		}
	}
}
