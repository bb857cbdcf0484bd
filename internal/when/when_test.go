package when

import (
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// now is a Sunday, a month after the clocks went back.
func at(t testing.TB) time.Time {
	t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return time.Date(2026, 11, 29, 14, 30, 15, 500, berlin)
}

func TestDatesNameASpan(t *testing.T) {
	t.Parallel()
	const moment = ""
	for _, test := range []struct{ text, first, last string }{
		{"2026-11-28", "2026-11-28 00:00:00", "2026-11-28 23:59:59"},
		{"2026-1-2", "2026-01-02 00:00:00", "2026-01-02 23:59:59"},
		{" 20261128 ", "2026-11-28 00:00:00", "2026-11-28 23:59:59"},
		{"28.11.2026", "2026-11-28 00:00:00", "2026-11-28 23:59:59"},
		{"28 Nov 2026", "2026-11-28 00:00:00", "2026-11-28 23:59:59"},
		{"November 28, 2026", "2026-11-28 00:00:00", "2026-11-28 23:59:59"},
		{"2024-02-29", "2024-02-29 00:00:00", "2024-02-29 23:59:59"},
		{"2026-10-25", "2026-10-25 00:00:00", "2026-10-25 23:59:59"}, // of 25 hours
		{"2026-10", "2026-10-01 00:00:00", "2026-10-31 23:59:59"},
		{"oct 2026", "2026-10-01 00:00:00", "2026-10-31 23:59:59"},
		{"2025", "2025-01-01 00:00:00", "2025-12-31 23:59:59"},
		{"2026-11-28 14:00", "2026-11-28 14:00:00", "2026-11-28 14:00:59"},
		{"2026-11-28  at 14:00", "2026-11-28 14:00:00", "2026-11-28 14:00:59"},
		{"2026-11-28T14:00", "2026-11-28 14:00:00", "2026-11-28 14:00:59"},
		{"2026-11-28 14:00:07", "2026-11-28 14:00:07", "2026-11-28 14:00:07"},
		{"28.11.2026 9:05", "2026-11-28 09:05:00", "2026-11-28 09:05:59"},
		{"20261128-013000", "2026-11-28 01:30:00", "2026-11-28 01:30:00"},
		{"20261128T0130", "2026-11-28 01:30:00", "2026-11-28 01:30:59"},
		{"20261128T013000+0000", "2026-11-28 02:30:00", "2026-11-28 02:30:00"},
		{"2026-11-28T14:00:00Z", "2026-11-28 15:00:00", "2026-11-28 15:00:00"},
		{"2026-11-28T14:00-05:00", "2026-11-28 20:00:00", "2026-11-28 20:00:59"},
		{"today", "2026-11-29 00:00:00", "2026-11-29 23:59:59"},
		{"Yesterday", "2026-11-28 00:00:00", "2026-11-28 23:59:59"},
		{"yesterday 18:02", "2026-11-28 18:02:00", "2026-11-28 18:02:59"},
		{"yesterday at 18:02", "2026-11-28 18:02:00", "2026-11-28 18:02:59"},
		{"08:15", "2026-11-29 08:15:00", "2026-11-29 08:15:59"},
		{"monday", "2026-11-23 00:00:00", "2026-11-23 23:59:59"},
		{"last sun", "2026-11-22 00:00:00", "2026-11-22 23:59:59"},
		{"friday 12:00", "2026-11-27 12:00:00", "2026-11-27 12:00:59"},
		{"now", "2026-11-29 14:30:15", moment},
		{"3 days ago", "2026-11-26 14:30:15", moment},
		{"36 days ago", "2026-10-24 14:30:15", moment}, // the same time of day, in summer
		{"2y", "2024-11-29 14:30:15", moment},
		{"2 years", "2024-11-29 14:30:15", moment},
		{"12 hours ago", "2026-11-29 02:30:15", moment},
		{"12h", "2026-11-29 02:30:15", moment},
		{"1d12h", "2026-11-28 02:30:15", moment},
		{"an hour ago", "2026-11-29 13:30:15", moment},
		{"a week ago", "2026-11-22 14:30:15", moment},
		{"90 minutes ago", "2026-11-29 13:00:15", moment},
		{"1 year and 6 months ago", "2025-05-29 14:30:15", moment},
		{"1 year, 2 weeks ago", "2025-11-15 14:30:15", moment},
		{"9m", "2026-02-28 14:30:15", moment}, // there is no February 29
		{"1q", "2026-08-29 14:30:15", moment},
	} {
		got, err := Parse(test.text, at(t))
		if test.last == moment {
			test.last = test.first
		}
		const layout = "2006-01-02 15:04:05"
		if first, last := got.First.Format(layout), got.Last.Format(layout); err != nil || first != test.first || last != test.last {
			t.Errorf("%q is %s to %s, want %s to %s, error: %v", test.text, first, last, test.first, test.last, err)
		}
	}
}

func TestWhatIsNoDateIsToldWithExamples(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " ", "soon", "2026-02-30", "2026-13-01", "11/28/2026", "28/11/26", "3", "3 bananas ago", "days ago",
		"999999999999 years ago", "90000 years ago", "3 days ago 14:00", "25:00", "yesterday 9", "-3 days ago", "in 3 days", "20261128-9999",
		"2026-11-28 14", "last", "last week 3", "ago", "1.5 days ago", "2026-11-28\x00"} {
		got, err := Parse(text, at(t))
		if err == nil || !strings.Contains(hint.Of(err), "yesterday") {
			t.Errorf("%q is %v, error: %v, hint: %q", text, got, err, hint.Of(err))
		}
	}
}

func TestADayIsReachedUntilItsEnd(t *testing.T) {
	t.Parallel()
	s, err := Parse("2026-11-28", at(t))
	if err != nil {
		t.Fatal(err)
	}
	morning, next := s.First.Add(90*time.Minute), s.First.AddDate(0, 0, 1)
	if !s.Reached(morning) || s.Reached(next) || s.Before(morning) || !s.Before(s.First.Add(-1)) {
		t.Errorf("%v", s)
	}
}
