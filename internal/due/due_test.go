package due

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/btrfs-backup/btrfs-backup/retention"
)

func must(t testing.TB, text string) Every {
	t.Helper()
	e, err := Parse(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// at reads a time by the clock of a zone; of a repeated hour it is the first.
func at(t testing.TB, z *time.Location, text string) time.Time {
	t.Helper()
	parsed, err := time.ParseInLocation("2006-01-02 15:04", text, z)
	if err != nil {
		t.Fatal(err)
	}
	if before := parsed.Add(-time.Hour); before.Format("15:04") == parsed.Format("15:04") {
		return before
	}
	return parsed
}

// zones set their clocks at two o'clock, at midnight, by half an hour, at different ends of a year, or never.
var zones = []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Beirut", "Africa/Cairo",
	"America/Santiago", "Asia/Kolkata", "UTC"}

func TestAYearOfRunsHasExactlyOneInEachPeriod(t *testing.T) {
	for _, name := range zones {
		z := zone(t, name)
		for u, text := range []string{
			"hourly", "daily day-start=06:30", "weekly week-start=sunday", "monthly", "quarterly", "yearly",
		} {
			e := must(t, text)
			runs, passed := make(map[retention.Period]int), make(map[retention.Period]bool)
			var newest time.Time
			for now := time.Date(2026, 1, 1, 0, 7, 0, 0, z); now.Year() < 2027; now = now.Add(15 * time.Minute) {
				in := e.Calendar.Period(retention.Unit(u), now)
				passed[in] = true
				if e.Due(now, newest) {
					runs[in]++
					newest = now
				}
			}
			for in := range passed {
				if runs[in] != 1 {
					t.Errorf("%s in %s: %d runs in the period %+v", text, name, runs[in], in)
				}
			}
		}
	}
}

func TestWhenTheClockIsSetAtTheStartOfADayThereIsOneRun(t *testing.T) {
	for _, start := range []string{"02:00", "02:30", "03:00"} {
		e, berlin := must(t, "daily day-start="+start), zone(t, "Europe/Berlin")
		runs := 0
		newest := at(t, berlin, "2026-03-27 12:00")
		for now := at(t, berlin, "2026-03-28 00:00"); now.Month() < 11; now = now.Add(5 * time.Minute) {
			if e.Due(now, newest) {
				runs++
				newest = now
			}
		}
		if want := 4 + 30 + 31 + 30 + 31 + 31 + 30 + 31; runs != want {
			t.Errorf("a day that begins at %s: %d runs in %d days", start, runs, want)
		}
	}
}

func TestNextIsTheFirstTimeAtWhichARunIsDue(t *testing.T) {
	for _, name := range zones {
		z := zone(t, name)
		for _, text := range []string{"hourly", "daily", "daily day-start=06:30", "weekly", "monthly", "quarterly", "yearly", "15m", "6h", "2d"} {
			e := must(t, text)
			for now := time.Date(2026, 1, 1, 0, 7, 13, 5, z); now.Year() < 2027; now = now.Add(5*time.Hour + 41*time.Minute) {
				next := e.Next(now, now)
				if !next.After(now) || !e.Due(next, now) || e.Due(next.Add(-time.Second), now) {
					t.Fatalf("%s in %s: after %v, next is %v", text, name, now, next)
				}
			}
		}
	}
}

func TestDue(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, c := range []struct {
		claim, every, newest, now string
		want                      bool
	}{
		{"the day has none yet", "daily", "2026-11-28 23:59", "2026-11-29 00:00", true},
		{"the day has one", "daily", "2026-11-29 00:00", "2026-11-29 23:59", false},
		{"the week begins on Monday", "weekly", "2026-11-29 12:00", "2026-11-30 00:00", true},
		{"the week begins on Sunday", "weekly week-start=sunday", "2026-11-29 12:00", "2026-11-30 00:00", false},
		{"the same day of another year", "daily", "2025-11-29 12:00", "2026-11-29 12:00", true},
		{"a duration but for a tenth", "15m", "2026-11-29 12:00", "2026-11-29 12:14", true},
		{"more than a tenth is missing", "15m", "2026-11-29 12:00", "2026-11-29 12:13", false},
		{"a duration but for ten minutes", "2d", "2026-11-27 12:00", "2026-11-29 11:50", true},
		{"more than ten minutes are missing", "2d", "2026-11-27 12:00", "2026-11-29 11:49", false},
		{"a duration over the end of summer time", "6h", "2026-10-25 00:00", "2026-10-25 04:49", false},
		{"six hours later although the clock shows five", "6h", "2026-10-25 00:00", "2026-10-25 05:00", true},
		{"a duration over the beginning of summer time", "6h", "2026-03-29 00:00", "2026-03-29 06:49", false},
		{"the clock was set back", "daily", "2027-05-01 12:00", "2026-11-29 12:00", true},
		{"the clock was set back by minutes", "hourly", "2026-11-29 12:05", "2026-11-29 12:00", true},
		{"a duration, and the clock was set back", "6h", "2026-11-29 12:01", "2026-11-29 12:00", true},
	} {
		if got := must(t, c.every).Due(at(t, berlin, c.now), at(t, berlin, c.newest)); got != c.want {
			t.Errorf("%s: %s, newest %s: due at %s is %v", c.claim, c.every, c.newest, c.now, got)
		}
	}
	if e := must(t, "yearly"); !e.Due(at(t, berlin, "2026-11-29 12:00"), time.Time{}) {
		t.Error("without any backup, none is due")
	}
}

func TestASecondPassOfAnHourHasItsOwnRun(t *testing.T) {
	first := at(t, zone(t, "Europe/Berlin"), "2026-10-25 02:00")
	if e := must(t, "hourly"); e.Due(first.Add(59*time.Minute), first) || !e.Due(first.Add(time.Hour), first) {
		t.Errorf("an hour that is repeated at %v is not two hours", first)
	}
}

func TestAnotherTimeZoneDecidesWhatItsDayHas(t *testing.T) {
	berlin, newYork, tokyo := zone(t, "Europe/Berlin"), zone(t, "America/New_York"), zone(t, "Asia/Tokyo")
	e, newest := must(t, "daily"), at(t, berlin, "2026-11-29 01:00")
	if !e.Due(at(t, newYork, "2026-11-29 00:00"), newest) || e.Due(at(t, newYork, "2026-11-28 23:59"), newest) {
		t.Error("after a flight to the west, a day does not begin at local midnight")
	}
	if e.Due(at(t, tokyo, "2026-11-29 23:59"), newest) || !e.Due(at(t, tokyo, "2026-11-30 00:00"), newest) {
		t.Error("after a flight to the east, a day does not end at local midnight")
	}
}

func TestWhatWasMissedIsCaughtUpOnce(t *testing.T) {
	for _, text := range []string{"hourly", "daily", "6h"} {
		e := must(t, text)
		newest, runs := time.Date(2026, 2, 1, 12, 30, 0, 0, time.UTC), 0
		back := newest.AddDate(0, 0, 10)
		for now := back; now.Before(back.Add(30 * time.Minute)); now = now.Add(time.Minute) {
			if e.Due(now, newest) {
				runs++
				newest = now
			}
		}
		if runs != 1 {
			t.Errorf("%s: after ten days off, %d runs", text, runs)
		}
	}
}

func TestAClockThatIsSetBackCausesOneRunMore(t *testing.T) {
	for _, text := range []string{"hourly", "daily", "monthly", "15m", "6h"} {
		e := must(t, text)
		set := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
		dates, runs := []time.Time{set.AddDate(0, 0, -70), set.AddDate(0, 0, 9), set.AddDate(0, 0, 10)}, 0
		for now := set; now.Before(set.Add(13 * time.Minute)); now = now.Add(time.Minute) {
			var newest time.Time
			for _, date := range dates {
				if date.After(newest) && !date.After(now) {
					newest = date
				}
			}
			if e.Due(now, newest) {
				runs++
				dates = append(dates, now)
			}
		}
		if runs != 1 {
			t.Errorf("%s: while the newest is dated in the future, %d runs", text, runs)
		}
	}
}

func TestRetriesBecomeRarer(t *testing.T) {
	for every, want := range map[string][]time.Duration{
		"daily": {0, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, 6 * time.Hour},
		"2h":    {0, 5 * time.Minute, 15 * time.Minute, time.Hour, time.Hour, time.Hour},
		"15m":   {0, 5 * time.Minute, 15 * time.Minute, 15 * time.Minute, 15 * time.Minute},
		"2m":    {0, 2 * time.Minute, 2 * time.Minute},
	} {
		for failures, wait := range want {
			if got := RetryAfter(failures, must(t, every)); got != wait {
				t.Errorf("%s, after %d failures: %v, want %v", every, failures, got, wait)
			}
		}
	}
	if got := RetryAfter(9, Every{}); got != time.Hour {
		t.Errorf("a job without interval is tried again after %v", got)
	}
}
