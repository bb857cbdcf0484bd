package engine

import (
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// inZone makes a time zone the local one until the end of the test.
func inZone(t *testing.T, name string) {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	before := time.Local
	time.Local = zone
	t.Cleanup(func() { time.Local = before })
}

func TestNamesOfASeries(t *testing.T) {
	inZone(t, "Europe/Berlin")
	tests := []struct {
		prefix, name string
		want         string // in RFC 3339; none: not of the series
	}{
		{"", "20261121-044948", "2026-11-21T04:49:48+01:00"},
		{"", "20260721-044948", "2026-07-21T04:49:48+02:00"},
		{"", "20240229-235959", "2024-02-29T23:59:59+01:00"},
		{"home", "home20261121-044948", "2026-11-21T04:49:48+01:00"},
		{"home-", "home-20261121-044948", "2026-11-21T04:49:48+01:00"},
		{"disk1", "disk120261121-044948", "2026-11-21T04:49:48+01:00"},
		{"disk", "disk120261121-044948", ""},
		{"disk1", "disk20261121-044948", ""},
		{"1", "20261121-044948", ""},
		{"", "120261121-044948", ""},
		{"", "home20261121-044948", ""},
		{"home", "20261121-044948", ""},
		{"home", "Home20261121-044948", ""},
		{"", "", ""},
		{"", "2017115-111", ""}, // 2017-11-05 01:01:01 to a lenient reader
		{"", "171105-010101", ""},
		{"", "20261121 044948", ""},
		{"", "20261121-0449", ""},
		{"", "20261121-0449481", ""},
		{"", "20261121-044948 ", ""},
		{"", "20261121-044948\n", ""},
		{"", "20261121-044948.5", ""}, // time.Parse takes fractions
		{"", "20261121-044948,5", ""},
		{"", "20261121-044948.incoming", ""},
		{"", ".20261121-044948.incoming", ""},
		{"", "+2261121-044948", ""},
		{"", "2026112１-044948", ""},
		{"", "20261321-044948", ""},
		{"", "20260230-044948", ""},
		{"", "20250229-044948", ""},
		{"", "20260100-044948", ""},
		{"", "20261121-240000", ""},
		{"", "20261121-046000", ""},
		{"", "20261121-044960", ""},
	}
	for _, test := range tests {
		n := Naming{Prefix: test.prefix}
		got, ok := n.Time(test.name)
		if ok != (test.want != "") || ok && got.Format(time.RFC3339) != test.want || n.Ours(test.name) != ok {
			t.Errorf("with prefix %q, %q is %s, %t, want %q", test.prefix, test.name, got.Format(time.RFC3339), ok, test.want)
		}
		if ok && n.Name(got) != test.name {
			t.Errorf("%q becomes %q", test.name, n.Name(got))
		}
	}
}

func TestNamesWhereTheClockIsChanged(t *testing.T) {
	inZone(t, "Europe/Berlin")
	summer := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // the hour from 02:00 comes twice
	winter := summer.Add(time.Hour)
	n := Naming{}
	if first, second := n.Name(summer), n.Name(winter); first != "20261025-023000" || second != first {
		t.Errorf("names in the doubled hour: %q and %q", first, second)
	}
	if got, ok := n.Time("20261025-023000"); !ok || !got.Equal(summer) && !got.Equal(winter) {
		t.Errorf("the doubled hour is %s, %t", got, ok)
	}
	// the hour from 02:00 is left out; a name made elsewhere, or by hand, is still one of the series
	before := time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC)
	if got, ok := n.Time("20260329-023000"); !ok || got.Before(before) || got.After(before.Add(2*time.Hour)) {
		t.Errorf("the hour that is left out is %s, %t", got, ok)
	}
}

func TestNamesAreInLocalTime(t *testing.T) {
	inZone(t, "Asia/Kolkata")
	at := time.Date(2026, 12, 31, 20, 0, 0, 999, time.UTC)
	if got := (Naming{Prefix: "x"}).Name(at); got != "x20270101-013000" {
		t.Errorf("%q", got)
	}
}

func TestHiddenNamesAreOfNoSeries(t *testing.T) {
	for prefix, name := range map[string]string{"": day(1), ".": "." + day(1), ".home": ".home" + day(1)} {
		if hidden := btrfs.Incoming(name); (Naming{Prefix: prefix}).Ours(hidden) {
			t.Errorf("with the prefix %q, %q counts as a complete backup", prefix, hidden)
		}
	}
}

func TestLatestHasOneNamePerSeries(t *testing.T) {
	for prefix, want := range map[string]string{"": ".latest", "home": ".home_latest", "home-": ".home-_latest"} {
		n := Naming{Prefix: prefix}
		if got := n.Latest(); got != want || n.Ours(got) || btrfs.IsIncoming(got) {
			t.Errorf("for the prefix %q: %q, want %q", prefix, got, want)
		}
	}
}
