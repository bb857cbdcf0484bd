package plan

import (
	"testing"
	"time"
)

func TestVersionsAreSummedUpByTheirNames(t *testing.T) {
	inZone(t, "Europe/Berlin")
	n := Naming{Prefix: "home-"}
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 0, 0, 0, time.Local) }
	now := at(29, 12)
	names := []string{n.Name(at(28, 1)), n.Name(at(30, 1)), n.Name(at(3, 1)), n.Name(now), n.Name(now.Add(time.Second))}
	want := Kept{Number: 3, Oldest: at(3, 1), Newest: now, Ahead: 2}
	if got := n.SumUp(now, names); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := n.SumUp(now, nil); got != (Kept{}) {
		t.Errorf("of none: %+v", got)
	}
}

func TestInTheHourThatComesTwiceABackupIsNeverDatedInTheFuture(t *testing.T) {
	for zone, first := range map[string]time.Time{
		"Europe/Berlin":    time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC),
		"America/New_York": time.Date(2026, 11, 1, 5, 30, 0, 0, time.UTC),
	} {
		inZone(t, zone)
		n := Naming{}
		names, second := []string{n.Name(first)}, first.Add(time.Hour)
		if names[0] != n.Name(second) {
			t.Fatalf("in %s, %v has another name than %v", zone, first, second)
		}
		for now, want := range map[time.Time]time.Time{
			first: first, first.Add(50 * time.Minute): first, second: second, second.Add(5 * time.Hour): second,
		} {
			if got := n.SumUp(now, names); !got.Newest.Equal(want) {
				t.Errorf("in %s at %v, %s is of %v, %d are in the future", zone, now, names[0], got.Newest, got.Ahead)
			}
		}
	}
}

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
