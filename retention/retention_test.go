package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// hours makes a snapshot for each number of hours before noon.
func hours(before ...int) []Snapshot {
	var snapshots []Snapshot
	for _, h := range before {
		snapshots = append(snapshots, Snapshot{Name: fmt.Sprintf("%+d", -h), Time: noon.Add(-time.Duration(h) * time.Hour)})
	}
	return snapshots
}

func kept(verdicts []Verdict) string {
	var names []string
	for _, v := range verdicts {
		if v.Keep {
			names = append(names, v.Name)
		}
	}
	return strings.Join(names, " ")
}

func TestDecide(t *testing.T) {
	held := hours(5, 4, 3, 2, 1)
	held[1].Holds = []string{"newest common with /mnt/usb"}
	for _, c := range []struct {
		claim     string
		last      int
		snapshots []Snapshot
		want      string
	}{
		{"the newest are kept, whatever the order given", 2, hours(1, 5, 3), "-3 -1"},
		{"no policy keeps everything", 0, hours(3, 2, 1), "-3 -2 -1"},
		{"a negative count is no policy", -1, hours(3, 2, 1), "-3 -2 -1"},
		{"a count larger than the list keeps everything", 9, hours(3, 2, 1), "-3 -2 -1"},
		{"a held snapshot is kept and does not use up the count", 1, held, "-4 -1"},
		{"the future is kept and not counted", 1, hours(2, 1, -1, -2000), "-1 +1 +2000"},
		{"a snapshot of this second is not in the future", 1, hours(1, 0), "+0"},
		{"nothing to decide", 1, nil, ""},
	} {
		if got := kept(Decide(Policy{Last: c.last}, noon, c.snapshots)); got != c.want {
			t.Errorf("%s: kept %q, want %q", c.claim, got, c.want)
		}
	}
}

func TestEveryVerdictHasAReason(t *testing.T) {
	snapshots := hours(4, 3, 2, 1, -1)
	snapshots[0].Holds = []string{"held"}
	for _, v := range Decide(Policy{Last: 2}, noon, snapshots) {
		if len(v.Reasons) == 0 || strings.Contains(v.String(), "  ") {
			t.Errorf("verdict without a reason: %+v", v)
		}
	}
}

// Whatever the input: one verdict a snapshot, the newest and the held stay, a second application deletes nothing, and a
// larger count never keeps less.
func TestDecideProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var snapshots []Snapshot
		for i := range random.IntN(12) {
			s := hours(random.IntN(20) - 4)[0]
			s.Name = fmt.Sprint(i)
			if random.IntN(5) == 0 {
				s.Holds = []string{"held"}
			}
			snapshots = append(snapshots, s)
		}
		last := random.IntN(6)
		verdicts := Decide(Policy{Last: last}, noon, snapshots)
		check(t, last, snapshots, verdicts)
	}
}

func check(t *testing.T, last int, snapshots []Snapshot, verdicts []Verdict) {
	t.Helper()
	keep := make(map[string]bool)
	for _, v := range verdicts {
		if _, twice := keep[v.Name]; twice {
			t.Fatalf("two verdicts for %s", v.Name)
		}
		keep[v.Name] = v.Keep
	}
	if len(keep) != len(snapshots) {
		t.Fatalf("%d verdicts for %d snapshots", len(keep), len(snapshots))
	}
	var survivors []Snapshot
	var newest *Snapshot
	for i, s := range snapshots {
		if keep[s.Name] {
			survivors = append(survivors, s)
		}
		if (len(s.Holds) > 0 || s.Time.After(noon)) && !keep[s.Name] {
			t.Fatalf("%+v deleted", s)
		}
		if !s.Time.After(noon) && (newest == nil || s.Time.After(newest.Time)) {
			newest = &snapshots[i]
		}
	}
	sameTime := func(s Snapshot) bool { return s.Time.Equal(newest.Time) }
	if newest != nil && !slices.ContainsFunc(survivors, sameTime) {
		t.Fatalf("the newest, %+v, deleted", *newest)
	}
	if again := Decide(Policy{Last: last}, noon, survivors); strings.Count(kept(again), " ") != max(len(survivors)-1, 0) {
		t.Fatalf("a second application deletes: %v", again)
	}
	if last > 0 && len(strings.Fields(kept(Decide(Policy{Last: last + 1}, noon, snapshots)))) < len(survivors) {
		t.Fatal("a larger count keeps less")
	}
}

func TestTheOutlookIsWhatTheForecastLeaves(t *testing.T) {
	now := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	in := now.AddDate(1, 0, 0)
	for _, text := range []string{"14d 8w 12m", "last=7", "within=3d 2y", "24h 7d", "compat=btrbk 14d 8w *m"} {
		policy, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var all []Snapshot
		for i := range 400 {
			at := now.AddDate(0, 0, -i).Add(-time.Hour)
			all = append(all, Snapshot{Name: at.Format("20060102-150405"), Time: at})
		}
		all[100].Holds = []string{"somebody needs it"}
		goes := Forecast(policy, now, all, 24*time.Hour, in)
		left := make(map[string]bool)
		toCome := 0
		for _, s := range Outlook(policy, now, all, 24*time.Hour, in) {
			if left[s.Name] = true; s.Name == "" {
				toCome++
			}
		}
		for _, v := range Decide(policy, now, all) {
			if want := v.Keep && goes[v.Name].IsZero(); left[v.Name] != want {
				t.Errorf("%s: %s is left: %t; it goes at %v", text, v.Name, left[v.Name], goes[v.Name])
			}
		}
		if toCome == 0 {
			t.Errorf("%s: nothing that comes is left", text)
		}
	}
}
