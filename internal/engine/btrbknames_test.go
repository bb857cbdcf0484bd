package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
)

func TestBtrbksNamesOfAllKindsAreOneSeries(t *testing.T) {
	inZone(t, "Europe/Berlin")
	home := Naming{Prefix: "home", Scheme: plan.BtrbkLong}
	for _, c := range []struct {
		name, want string
		number     int
		dateOnly   bool
	}{
		{"home.20260109", "2026-01-09T00:00:00+01:00", 0, true},
		{"home.20260109_2", "2026-01-09T00:00:00+01:00", 2, true},
		{"home.20260109T1430", "2026-01-09T14:30:00+01:00", 0, false},
		{"home.20260709T1430_10", "2026-07-09T14:30:00+02:00", 10, false},
		{"home.20260109T143059+0100", "2026-01-09T14:30:59+01:00", 0, false},
		{"home.20260109T143059-0500_1", "2026-01-09T20:30:59+01:00", 1, false},
		{"home.20260109T143059Z", "2026-01-09T15:30:59+01:00", 0, false},
		{"home.20260109T143059", "", 0, false},
		{"home.20260109T14", "", 0, false},
		{"home.20260109T1430_", "", 0, false},
		{"home.20260109T1430_1_2", "", 0, false},
		{"home.20261309T1430", "", 0, false},
		{"home.20260230", "", 0, false},
		{"home20260109T1430", "", 0, false},
		{".home.20260109T1430.incoming", "", 0, false},
		{"home2.20260109T1430", "", 0, false},
		{"a.home.20260109T1430", "", 0, false},
		{"home.20260109-143000", "", 0, false},
		{"20260109T1430", "", 0, false},
		{"home.20260109T1430\n", "", 0, false},
	} {
		for _, scheme := range []plan.Scheme{plan.BtrbkShort, plan.BtrbkLong, plan.BtrbkLongISO} {
			s, ok := Naming{Prefix: "home", Scheme: scheme}.Snapshot(c.name)
			if ok != (c.want != "") || ok && (s.Time.Format(time.RFC3339) != c.want || s.Number != c.number || s.DateOnly != c.dateOnly) {
				t.Errorf("%s: %q is %+v, %t", scheme, c.name, s, ok)
			}
		}
		if of, ok := NamingOf(c.name); c.want != "" && (!ok || of != home) || c.want == "" && ok && of == home {
			t.Errorf("%q is of the series %+v, %t", c.name, of, ok)
		}
		if c.want != "" && (Naming{Prefix: "home."}).Ours(c.name) {
			t.Errorf("without a scheme, %q is of the series", c.name)
		}
	}
	if of, ok := NamingOf("home.20260109-143000"); !ok || of != (Naming{Prefix: "home."}) {
		t.Errorf("%+v, %t", of, ok)
	}
}

func TestASnapshotOfBtrbksSchemeGetsTheNextNumber(t *testing.T) {
	inZone(t, "Europe/Berlin")
	at := time.Date(2026, 1, 9, 14, 30, 59, 0, time.Local)
	for _, c := range []struct {
		scheme plan.Scheme
		taken  []string
		want   string
	}{
		{plan.BtrbkShort, nil, "home.20260109"},
		{plan.BtrbkLong, []string{"home.20260109", "home.20260109T1429", "root.20260109T1430"}, "home.20260109T1430"},
		{plan.BtrbkLongISO, nil, "home.20260109T143059+0100"},
		{plan.BtrbkLong, []string{"home.20260109T1430"}, "home.20260109T1430_1"},
		{plan.BtrbkLong, []string{"home.20260109T1430_9", "home.20260109T1430_10"}, "home.20260109T1430_11"},
		{plan.BtrbkLong, []string{"home.20260109T1430_old"}, "home.20260109T1430"},
		{plan.Seconds, []string{"home20260109-143059"}, "home20260109-143059"},
	} {
		n := Naming{Prefix: "home", Scheme: c.scheme}
		if got := n.Next(at, c.taken); got != c.want || !n.Ours(got) {
			t.Errorf("%s beside %q: %s, want %s", c.scheme, c.taken, got, c.want)
		}
		if longest := n.Longest(); !n.Ours(longest) || len(longest) < len(n.Name(at)) {
			t.Errorf("%s is the longest name", longest)
		}
	}
}

func TestWithoutANumberThatIsLeftNoSnapshotIsTaken(t *testing.T) {
	at := time.Date(2026, 1, 9, 12, 0, 0, 0, time.Local)
	s, d := newFakes(snap(1, named("home.20260109_999999999")))
	report, err := Run(t.Context(), jobOf(s, d, func(j *Job) {
		j.NoSnapshot, j.Naming, j.Now = false, Naming{Prefix: "home", Scheme: plan.BtrbkShort}, func() time.Time { return at }
	}))
	if err != nil || len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Err.Error(), "no number is left") {
		t.Errorf("%v, %v", report.AllFailures(), err)
	}
}
