package due

import (
	"strings"
	"testing"
	"time"

	"btrfs-backup/internal/hint"
)

var named = map[string]string{"six-hourly": "6h", "workweek": " weekly week-start=friday ", "bad": "6x", "loop": "six-hourly"}

func TestIntervalsAreReadAndWrittenBack(t *testing.T) {
	for _, c := range []struct {
		text, want string
		length     time.Duration
	}{
		{"daily", "daily", 24 * time.Hour},
		{" hourly ", "hourly", time.Hour},
		{"weekly  week-start=sunday  day-start=06:30", "weekly week-start=sunday day-start=06:30", 7 * 24 * time.Hour},
		{"yearly", "yearly", 366 * 24 * time.Hour},
		{"15m", "15m", 15 * time.Minute},
		{"3600s", "1h", time.Hour},
		{"36h", "36h", 36 * time.Hour},
		{"48h", "2d", 48 * time.Hour},
		{"14d", "2w", 14 * 24 * time.Hour},
		{"six-hourly", "6h", 6 * time.Hour},
		{"workweek", "weekly week-start=friday", 7 * 24 * time.Hour},
	} {
		e, err := Parse(c.text, named)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if e.String() != c.want || e.Length != c.length {
			t.Errorf("%q is written as %q, of %v; want %q, of %v", c.text, e, e.Length, c.want, c.length)
		}
		if again, err := Parse(e.String(), nil); err != nil || again != e {
			t.Errorf("%q is read back as %+v, %v", e, again, err)
		}
	}
}

func TestWhatIsNoIntervalIsRefused(t *testing.T) {
	for _, c := range []struct{ text, want, hint string }{
		{"", "is no interval", "six-hourly"},
		{"6", "is no interval", "15m"},
		{"-6h", "is no interval", "15m"},
		{"1h30m", "is no interval", "15m"},
		{"1.5h", "is no interval", "15m"},
		{"dayly", "is no interval", "daily"},
		{"6h week-start=sunday", "is no interval", "15m"},
		{"0h", "shorter than a minute", "15m"},
		{"59s", "shorter than a minute", "15m"},
		{"11y", "is no interval", "yearly"},
		{"600w", "longer than ten years", "leave it out"},
		{"99999999999999999999h", "longer than ten years", "leave it out"},
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
