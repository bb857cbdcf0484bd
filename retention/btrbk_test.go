package retention

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stamped makes a snapshot for each of btrbk's timestamps.
func stamped(t testing.TB, z *time.Location, stamps ...string) []Snapshot {
	t.Helper()
	var snapshots []Snapshot
	for _, stamp := range stamps {
		s := Snapshot{Name: stamp}
		text, number, _ := strings.Cut(stamp, "_")
		s.Number, _ = strconv.Atoi(number)
		layout := "20060102T150405-0700"[:len(text)]
		if len(text) == len("20060102T1504") || len(text) == len("20060102") {
			s.DateOnly = len(text) == len("20060102")
		}
		at, err := time.ParseInLocation(layout, text, z)
		if err != nil {
			t.Fatal(err)
		}
		s.Time = at
		snapshots = append(snapshots, s)
	}
	return snapshots
}

// ofBtrbk gives the policy of btrbk's options.
func ofBtrbk(t testing.TB, least, preserve, hour, weekday string) Policy {
	t.Helper()
	text := "compat=btrbk week-start=" + weekday
	if hour != "0" {
		text += fmt.Sprintf(" day-start=%02s:00", hour)
	}
	if preserve != "no" {
		text += " " + preserve
	}
	switch least {
	case "no":
	case "latest":
		text += " last=1"
	default:
		text += " within=" + least
	}
	return must(t, text)
}

func TestSnapshotsAreKeptAsBtrbkDoesAndTheNewest(t *testing.T) {
	content, err := os.ReadFile("testdata/btrbk.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		field := strings.Split(strings.TrimSpace(line), " | ")
		z, p := zone(t, field[0]), ofBtrbk(t, field[2], field[3], field[4], field[5])
		now, err := time.ParseInLocation("2006-01-02 15:04", field[1], z)
		if err != nil {
			t.Fatal(err)
		}
		var stamps, want []string
		for _, stamp := range strings.Fields(field[6]) {
			stamp, keep := strings.CutPrefix(stamp, "+")
			if stamps = append(stamps, stamp); keep {
				want = append(want, stamp)
			}
		}
		snapshots := stamped(t, z, stamps...)
		if newest := newestOf(snapshots, now); newest != "" && !slices.Contains(want, newest) {
			want = append(want, newest)
		}
		got := strings.Fields(kept(Decide(p, now, snapshots)))
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s\nkept %s\nwant %s", line, got, want)
		}
		cases++
	}
	if cases < 100 {
		t.Errorf("%d cases", cases)
	}
}

// newestOf gives the newest that is not dated in the future.
func newestOf(snapshots []Snapshot, now time.Time) string {
	name := ""
	for _, s := range slices.SortedFunc(slices.Values(snapshots), byTime) {
		if !s.Time.After(now) {
			name = s.Name
		}
	}
	return name
}

func TestBtrbksRule(t *testing.T) {
	days := func(first, last string) string {
		var all []string
		for at, _ := time.Parse("20060102", first); at.Format("20060102") <= last; at = at.AddDate(0, 0, 1) {
			all = append(all, at.Format("20060102T1504"))
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct{ claim, now, policy, from, want string }{
		{"one more than the number, with that of today", "0310T1000", "3d", days("20240304", "20240310"), "0307T0000 0308T0000 0309T0000 0310T0000"},
		{"all that are young", "0310T1000", "within=1d", "0307T0000 0308T0000 0308T2300 0309T0100 0309T1200 0310T0000 0310T0900",
			"0309T0100 0309T1200 0310T0000 0310T0900"},
		{"the newest, which btrbk deletes", "0310T2300", "2d", "0309T0800 0309T1200 0310T0100 0310T0900 0310T2200", "0309T0800 0310T0100 0310T2200"},
		{"months begin on the first day of a week", "0402T0000", "2w 3m", days("20240128", "20240402"),
			"0128T0000 0204T0000 0303T0000 0317T0000 0324T0000 0331T0000 0402T0000"},
		{"the first of a week", "0320T0000", "3w", "0301T0000 0305T0000 0306T0000 0311T0000 0312T0000 0318T0000 0319T0000",
			"0301T0000 0305T0000 0311T0000 0318T0000 0319T0000"},
		{"a day can begin later", "0310T1200", "2d day-start=06:00",
			"0308T0500 0308T0700 0309T0100 0309T0559 0309T0600 0310T0300 0310T0600 0310T0700", "0308T0700 0309T0600 0310T0600 0310T0700"},
		{"one dated in the future takes no place", "0310T1200", "last=1", "0309T0000 0310T1100 0311T0000", "0310T1100 0311T0000"},
		{"of the same time, the first and the newest", "0310T1200", "1d", "0310T0000 0310T0000_1 0310T0000_10 0310T0000_2", "0310T0000 0310T0000_10"},
		{"no hour is known of a date", "0310T0300", "1d day-start=06:00", "0308 0309 0310", "0309 0310"},
		{"hours", "0310T1230", "2h", "0310T0959 0310T1000 0310T1059 0310T1100 0310T1130 0310T1200 0310T1229",
			"0310T1000 0310T1100 0310T1200 0310T1229"},
		{"terms together", "0313T0000", "1d 1w 1m week-start=monday", days("20240201", "20240313"),
			"0205T0000 0304T0000 0311T0000 0312T0000 0313T0000"},
	} {
		year := func(stamps string) (all []string) {
			for _, s := range strings.Fields(stamps) {
				all = append(all, "2024"+strings.TrimPrefix(s, "2024"))
			}
			return all
		}
		now := stamped(t, time.UTC, "2024"+c.now)[0].Time
		got := strings.Fields(kept(Decide(must(t, "compat=btrbk "+c.policy), now, stamped(t, time.UTC, year(c.from)...))))
		if !slices.Equal(got, year(c.want)) {
			t.Errorf("%s: %s keeps %s, want %s", c.claim, c.policy, got, year(c.want))
		}
	}
	years := stamped(t, time.UTC, "20211231", "20220101", "20220102", "20230101", "20231231", "20240101", "20240107", "20240114")
	noon := time.Date(2024, 3, 10, 12, 0, 0, 0, time.UTC)
	if got := kept(Decide(must(t, "compat=btrbk 1y"), noon, years)); got != "20230101 20240107 20240114" {
		t.Errorf("years begin on the first day of a week: %s", got)
	}
}

func TestBtrbksRuleIsExplained(t *testing.T) {
	p, now := must(t, "compat=btrbk 2d 1w"), time.Date(2024, 3, 13, 12, 0, 0, 0, time.UTC) // Wednesday
	snapshots := stamped(t, time.UTC, "20240229T0000", "20240303T0000", "20240303T1200", "20240311T0000", "20240311T0900", "20240313T0000", "20240313T1100")
	want := []string{
		"delete 20240229T0000: older than compat=btrbk 2d 1w reaches",
		"keep 20240303T0000: first of its week (1 back)",
		"delete 20240303T1200: of its day, 20240303T0000 is kept",
		"keep 20240311T0000: first of its day (2 back), first of its week (0 back)",
		"delete 20240311T0900: of its day, 20240311T0000 is kept",
		"keep 20240313T0000: first of its day (0 back)",
		"keep 20240313T1100: the newest",
	}
	for i, v := range Decide(p, now, snapshots) {
		if v.String() != want[i] {
			t.Errorf("%q, want %q", v, want[i])
		}
	}
	goes := Forecast(p, now, snapshots, 24*time.Hour, now.AddDate(0, 0, 30))
	for name, want := range map[string]string{"20240303T0000": "2024-03-17", "20240311T0000": "2024-03-24", "20240313T0000": "2024-03-16"} {
		if got := goes[name].Format(time.DateOnly); got != want {
			t.Errorf("%s goes on %s, want %s", name, got, want)
		}
	}
}

func TestAPolicyIsTakenUnderARule(t *testing.T) {
	for _, c := range []struct{ policy, rule, want string }{
		{"14d 8w", Btrbk, "compat=btrbk 14d 8w"},
		{"14d 8w", "", "14d 8w"},
		{"compat=btrbk 14d", Btrbk, "compat=btrbk 14d"},
		{"compat=btrbk 14d", "", "compat=btrbk 14d"},
		{"4q", Btrbk, "error"},
		{"within=1q", Btrbk, "error"},
		{"4d day-start=06:30", Btrbk, "error"},
		{"4d", "snapper", "error"},
	} {
		p, err := must(t, c.policy).As(c.rule)
		if got := p.String(); err == nil && got != c.want || err != nil && c.want != "error" {
			t.Errorf("%s under %q is %s, %v", c.policy, c.rule, got, err)
		}
	}
	if p, err := (Policy{}).As(Btrbk); err != nil || p != (Policy{}) {
		t.Errorf("what keeps all is %s, %v", p, err)
	}
}
