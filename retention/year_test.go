package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// policies are of all kinds of terms.
var policies = []string{
	"last=5", "within=2d", "24h", "7d", "4w", "12m", "4q", "*y", "24h 7d 4w 3m", "within=2d 14d 8w 12m *y last=3", "2h *d",
	"3w week-start=sunday", "5d 2m day-start=06:00",
	"compat=btrbk 14d 8w 12m", "compat=btrbk within=2d 24h 10d 4w 6m *y day-start=06:00 week-start=monday",
}

// year simulates the runs of a year: a snapshot in each hour but for gaps, and the policy applied when prune says so.
func year(t *testing.T, p Policy, zone *time.Location, prune func(hour int) bool) (left []Snapshot, all []Snapshot, now time.Time) {
	start := time.Date(2026, 1, 1, 0, 30, 0, 0, zone)
	off := rand.New(rand.NewPCG(7, 7))
	for h, until := 0, 0; h < 365*24; h++ {
		now = start.Add(time.Duration(h) * time.Hour)
		if off.IntN(600) == 0 {
			until = h + off.IntN(24*20)
		}
		if h < until {
			continue
		}
		s := Snapshot{Name: now.UTC().Format("20060102-1504"), Time: now}
		left, all = append(left, s), append(all, s)
		if prune(h) {
			left = survivors(Decide(p, now, left), left)
		}
	}
	return survivors(Decide(p, now, left), left), all, now
}

func survivors(verdicts []Verdict, of []Snapshot) []Snapshot {
	keep := make(map[string]bool)
	for _, v := range verdicts {
		keep[v.Name] = v.Keep
	}
	return slices.DeleteFunc(slices.Clone(of), func(s Snapshot) bool { return !keep[s.Name] })
}

func namesOf(snapshots []Snapshot) string {
	var names []string
	for _, s := range snapshots {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

func TestHowOftenAPolicyIsAppliedMakesNoDifference(t *testing.T) {
	for _, text := range policies {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			p, berlin := must(t, text), zone(t, "Europe/Berlin")
			hourly, all, now := year(t, p, berlin, func(int) bool { return true })
			daily, _, _ := year(t, p, berlin, func(h int) bool { return h%24 == 5 })
			atOnce := survivors(Decide(p, now, all), all)
			if namesOf(hourly) != namesOf(daily) || namesOf(hourly) != namesOf(atOnce) {
				t.Errorf("applied hourly, %d are left: %s\ndaily, %d: %s\nonce in the end, %d: %s",
					len(hourly), namesOf(hourly), len(daily), namesOf(daily), len(atOnce), namesOf(atOnce))
			}
		})
	}
}

func TestTheSteadyStateIsAsLargeAsTheTermsSay(t *testing.T) {
	p := must(t, "24h 7d 4w 3m")
	var snapshots []Snapshot
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for at := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC); !at.After(now); at = at.Add(time.Hour) {
		snapshots = append(snapshots, Snapshot{Name: at.Format("20060102-15"), Time: at})
	}
	for _, c := range []struct {
		claim string
		now   time.Time
		from  []Snapshot
	}{
		{"running", now, snapshots},
		{"after ten days off", now.AddDate(0, 0, 10), snapshots},
		{"the last is four months old", now.AddDate(0, 4, 0), snapshots},
	} {
		if n := len(survivors(Decide(p, c.now, c.from), c.from)); n < 34 || n > 38 {
			t.Errorf("%s: %d are kept", c.claim, n)
		}
	}
}

func TestOneMoreSnapshotRevivesNoneAndASecondRunDeletesNone(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, text := range policies {
		p := must(t, text)
		for range 60 {
			var snapshots []Snapshot
			at := noon
			for i := range random.IntN(80) {
				at = at.Add(time.Duration(random.IntN(60*24*9)) * time.Minute)
				snapshots = append(snapshots, Snapshot{Name: fmt.Sprint(i), Time: at})
			}
			before := survivors(Decide(p, at, snapshots), snapshots)
			if again := survivors(Decide(p, at, before), before); namesOf(again) != namesOf(before) {
				t.Fatalf("%s: a second run keeps %s of %s", text, namesOf(again), namesOf(before))
			}
			next := Snapshot{Name: "next", Time: at.Add(time.Duration(1+random.IntN(60*24*40)) * time.Minute)}
			for _, s := range survivors(Decide(p, next.Time, append(slices.Clone(snapshots), next)), snapshots) {
				if !slices.ContainsFunc(before, func(b Snapshot) bool { return b.Name == s.Name }) {
					t.Fatalf("%s: %s was given up, and is kept when there is one more", text, s.Name)
				}
			}
		}
	}
}

func TestALargerNumberNeverKeepsLess(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 9))
	for range 300 {
		var snapshots []Snapshot
		at := noon
		for i := range random.IntN(60) {
			at = at.Add(time.Duration(random.IntN(60*24*20)) * time.Minute)
			snapshots = append(snapshots, Snapshot{Name: fmt.Sprint(i), Time: at})
		}
		unit, n := random.IntN(units), 1+random.IntN(6)
		small, large := Policy{}, Policy{}
		small.Of[unit], large.Of[unit] = n, n+1
		few, more := survivors(Decide(small, at, snapshots), snapshots), survivors(Decide(large, at, snapshots), snapshots)
		for _, s := range few {
			if !slices.ContainsFunc(more, func(m Snapshot) bool { return m.Name == s.Name }) {
				t.Fatalf("%s keeps %s, and %s does not", small, s.Name, large)
			}
		}
	}
}

func TestForecastIsWhatHappens(t *testing.T) {
	p := must(t, "3d 2w")
	const day = 24 * time.Hour
	var snapshots []Snapshot
	for i := range 20 {
		at := noon.Add(time.Duration(i) * day)
		snapshots = append(snapshots, Snapshot{Name: at.Format(time.DateOnly), Time: at})
	}
	now := snapshots[19].Time // Sunday, 29 March
	snapshots = survivors(Decide(p, now, snapshots), snapshots)
	if got := namesOf(snapshots); got != "2026-03-16 2026-03-23 2026-03-27 2026-03-28 2026-03-29" {
		t.Fatalf("%s are kept", got)
	}
	goes := Forecast(p, now, snapshots, day, now.AddDate(0, 0, 10))
	for name, want := range map[string]string{"2026-03-16": "2026-03-30", "2026-03-23": "2026-04-06", "2026-03-27": "2026-03-30", "2026-03-28": "2026-03-31", "2026-03-29": "2026-04-01"} {
		if got := goes[name].Format(time.DateOnly); got != want {
			t.Errorf("%s goes on %s, want %s", name, got, want)
		}
	}
	if len(goes) != 5 {
		t.Errorf("%v", goes)
	}
	snapshots[0].Holds, snapshots[4].Holds = []string{"a destination is away"}, []string{"newest common"}
	snapshots = append(snapshots, Snapshot{Name: "of tomorrow", Time: now.Add(day)})
	goes = Forecast(p, now, snapshots, day, now.AddDate(0, 0, 10))
	if _, ok := goes["2026-03-16"]; ok || goes["2026-03-29"].Format(time.DateOnly) != "2026-04-01" {
		t.Errorf("with holds: %v", goes)
	}
	if goes := Forecast(p, now, snapshots, day, now); len(goes) != 0 {
		t.Errorf("until now: %v", goes)
	}
}

func TestHourlySnapshotsAreForecastByTheDay(t *testing.T) {
	p, now := must(t, "24h 3d"), noon.Add(100*time.Hour) // at 16:00
	var snapshots []Snapshot
	for i := range 101 {
		at := noon.Add(time.Duration(i) * time.Hour)
		snapshots = append(snapshots, Snapshot{Name: at.Format("01-02 15"), Time: at})
	}
	snapshots = survivors(Decide(p, now, snapshots), snapshots)
	goes := Forecast(p, now, snapshots, time.Hour, now.AddDate(0, 0, 10))
	for name, want := range map[string]string{now.Format("01-02 15"): now.AddDate(0, 0, 1).Format(time.DateOnly),
		now.Format("01-02") + " 00": now.AddDate(0, 0, 3).Format(time.DateOnly)} {
		if got := goes[name].Format(time.DateOnly); got != want {
			t.Errorf("%s goes on %s, want %s", name, got, want)
		}
	}
	if len(goes) != len(snapshots) {
		t.Errorf("%d of %d go", len(goes), len(snapshots))
	}
}

func TestTheIntervalIsTheUsualOneOfLate(t *testing.T) {
	const day = 24 * time.Hour
	snapshots := func(distances ...time.Duration) (all []Snapshot) {
		at := noon
		for _, d := range distances {
			all = append(all, Snapshot{Time: at})
			at = at.Add(-d)
		}
		return all
	}
	var weekly []time.Duration
	for range 20 {
		weekly = append(weekly, 7*day)
	}
	daily := []time.Duration{time.Second, day, day, day, day, day, day, day, day, 20 * day}
	for want, of := range map[time.Duration][]Snapshot{
		day:       snapshots(append(daily, weekly...)...),
		7 * day:   snapshots(weekly...),
		time.Hour: snapshots(time.Minute, time.Minute, time.Minute),
	} {
		if got := Interval(noon, of); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := Interval(noon, snapshots(time.Hour)); got != day {
		t.Errorf("of one: %s", got)
	}
	if got := Interval(noon, append(snapshots(7*day, 7*day), Snapshot{Time: noon.Add(day)})); got != 7*day {
		t.Errorf("with one dated in the future: %s", got)
	}
}
