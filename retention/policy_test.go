package retention

import (
	"testing"
	"time"
)

func TestPoliciesAreReadAndWrittenBack(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"last=7", "last=7"},
		{"14d8w12m", "14d 8w 12m"},
		{" 12m  14d ", "14d 12m"},
		{"within=2d 24h 14d 8w 12m 4q *y last=3", "within=2d last=3 24h 14d 8w 12m 4q *y"},
		{"within=2d7d", "within=2d 7d"},
		{"0h 7d", "7d"},
		{"7d week-start=sunday day-start=06:30", "7d week-start=sunday day-start=06:30"},
		{"7d week-start=monday", "7d week-start=monday"},
		{"14d *m compat=btrbk within=2d", "compat=btrbk within=2d 14d *m"},
	} {
		p, err := Parse(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got := p.String(); got != c.want {
			t.Errorf("%q is written as %q, want %q", c.text, got, c.want)
		}
		if again, err := Parse(p.String()); err != nil || again != p {
			t.Errorf("%q is read back as %+v, %v", p.String(), again, err)
		}
	}
}

func TestWhatIsNoPolicyIsRefused(t *testing.T) {
	for _, text := range []string{
		"", " ", "0d", "last=0", "0d 0w", "7", "-7d", "d", "7x", "7D", "7d 8d", "last=3 last=4", "*", "7d,8w", "within=d", "within=*d",
		"week-start=monday", "7d week-start=someday", "7d day-start=24:00", "7d day-start=6:00", "99999999999999999999d", "1000001d",
		"compat=btrbk", "7d compat=snapper", "4q compat=btrbk", "7d compat=btrbk day-start=06:30",
	} {
		if p, err := Parse(text); err == nil {
			t.Errorf("%q is read as %+v", text, p)
		}
	}
}

func TestAPolicyIsMadeToKeepWhatIsYounger(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for _, c := range []struct {
		policy string
		age    time.Duration
		want   string
	}{
		{"14d", week, "within=168h 14d"},
		{"14d", 0, "14d"},
		{"last=2", time.Minute, "within=1h last=2"},
		{"within=2d 14d", week, "within=168h 14d"},
		{"within=1m 14d", week, "within=1m 14d"},
	} {
		if got := must(t, c.policy).AtLeast(c.age).String(); got != c.want {
			t.Errorf("%s with %s is %s, want %s", c.policy, c.age, got, c.want)
		}
	}
	if got := (Policy{}).AtLeast(week); got != (Policy{}) {
		t.Errorf("what keeps all becomes %s", got)
	}
}

// must reads a policy.
func must(t testing.TB, text string) Policy {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// on makes a snapshot for each time, written as 2006-01-02 15:04.
func on(t testing.TB, z *time.Location, times ...string) []Snapshot {
	t.Helper()
	var snapshots []Snapshot
	for _, text := range times {
		at, err := time.ParseInLocation("2006-01-02 15:04", text, z)
		if err != nil {
			t.Fatal(err)
		}
		snapshots = append(snapshots, Snapshot{Name: at.Format("0102T1504-0700"), Time: at})
	}
	return snapshots
}

func TestTheOldestOfEachPeriodIsKept(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, c := range []struct {
		claim, policy string
		times         []string
		want          string
	}{
		{"the oldest of a day", "2d", []string{"2026-03-08 09:00", "2026-03-09 08:00", "2026-03-09 12:00", "2026-03-10 01:00", "2026-03-10 09:00", "2026-03-10 22:00"},
			"0309T0800+0100 0310T0100+0100 0310T2200+0100"},
		{"days without a snapshot are not counted", "3d", []string{"2025-01-01 09:00", "2025-06-01 09:00", "2026-01-01 09:00", "2026-03-10 09:00"},
			"0601T0900+0200 0101T0900+0100 0310T0900+0100"},
		{"weeks begin on Monday", "2w", []string{"2026-03-01 12:00", "2026-03-02 12:00", "2026-03-08 12:00", "2026-03-09 12:00"},
			"0302T1200+0100 0309T1200+0100"},
		{"or on another day", "2w week-start=sunday", []string{"2026-02-28 12:00", "2026-03-01 12:00", "2026-03-02 12:00", "2026-03-08 12:00", "2026-03-09 12:00"},
			"0301T1200+0100 0308T1200+0100 0309T1200+0100"},
		{"a week across a year is one", "1w last=1", []string{"2025-12-29 12:00", "2025-12-31 12:00", "2026-01-01 12:00", "2026-01-04 12:00"},
			"1229T1200+0100 0104T1200+0100"},
		{"a day can begin later", "2d day-start=06:00", []string{"2026-03-09 05:00", "2026-03-09 07:00", "2026-03-10 05:00", "2026-03-10 07:00"},
			"0309T0700+0100 0310T0700+0100"},
		{"so do months", "2m day-start=06:00", []string{"2026-02-02 05:00", "2026-03-01 05:00", "2026-03-01 07:00"},
			"0202T0500+0100 0301T0700+0100"},
		{"quarters and years", "2q *y", []string{"2024-05-01 12:00", "2024-06-01 12:00", "2025-02-01 12:00", "2025-12-31 12:00", "2026-01-01 12:00", "2026-02-01 12:00"},
			"0501T1200+0200 0201T1200+0100 1231T1200+0100 0101T1200+0100 0201T1200+0100"},
		{"what is younger", "within=1d", []string{"2026-03-09 12:00", "2026-03-10 11:59", "2026-03-10 13:00", "2026-03-11 12:00"},
			"0310T1300+0100 0311T1200+0100"},
		{"months are as long as the calendar says", "within=1m", []string{"2026-02-27 12:00", "2026-03-01 12:00", "2026-03-28 12:00"},
			"0301T1200+0100 0328T1200+0100"},
	} {
		snapshots := on(t, berlin, c.times...)
		now := snapshots[len(snapshots)-1].Time
		if got := kept(Decide(must(t, c.policy), now, snapshots)); got != c.want {
			t.Errorf("%s: %s keeps %s, want %s", c.claim, c.policy, got, c.want)
		}
	}
}

func TestHoursAndDaysAtAChangeOfTheClock(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	every := func(from time.Time, n int, step time.Duration) (s []Snapshot) {
		for i := range n {
			at := from.Add(time.Duration(i) * step)
			s = append(s, Snapshot{Name: at.Format("02T1504-0700"), Time: at})
		}
		return s
	}
	autumn := every(time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), 12, 30*time.Minute) // 3:00 becomes 2:00
	if got, want := kept(Decide(must(t, "99h"), autumn[11].Time, autumn)), "25T0000+0200 25T0100+0200 25T0200+0200 25T0200+0100 25T0300+0100 25T0400+0100 25T0430+0100"; got != want {
		t.Errorf("autumn: %s, want %s", got, want)
	}
	spring := every(time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), 8, 30*time.Minute) // 2:00 becomes 3:00
	if got, want := kept(Decide(must(t, "99h"), spring[7].Time, spring)), "29T0000+0100 29T0100+0100 29T0300+0200 29T0400+0200 29T0430+0200"; got != want {
		t.Errorf("spring: %s, want %s", got, want)
	}
	for _, first := range []time.Time{time.Date(2026, 10, 24, 12, 0, 0, 0, berlin), time.Date(2026, 3, 28, 12, 0, 0, 0, berlin)} {
		hourly := every(first, 3*24, time.Hour)
		days := map[string]bool{}
		for _, s := range hourly {
			days[s.Time.Format(time.DateOnly)] = true
		}
		daily := 0
		for _, v := range Decide(must(t, "99d"), hourly[len(hourly)-1].Time, hourly) {
			if v.Keep && v.Reasons[0] != "the newest" || len(v.Reasons) > 1 {
				daily++
			}
		}
		if daily != len(days) {
			t.Errorf("%s: %d days are kept of %d", first, daily, len(days))
		}
	}
}

func TestPeriodsAreThoseOfTheZoneOfTheRun(t *testing.T) {
	utc := on(t, time.UTC, "2026-03-09 23:30", "2026-03-10 00:30", "2026-03-10 12:00")
	if got := kept(Decide(must(t, "9d"), utc[2].Time, utc)); got != "0309T2330+0000 0310T0030+0000 0310T1200+0000" {
		t.Errorf("in UTC: %s", got)
	}
	if got := kept(Decide(must(t, "9d"), utc[2].Time.In(zone(t, "Europe/Berlin")), utc)); got != "0309T2330+0000 0310T1200+0000" {
		t.Errorf("in Berlin: %s", got)
	}
}
