package plan

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestNamesAreReadAsTimes compares with the library, which takes no other names if they have the right form.
func TestNamesAreReadAsTimes(t *testing.T) {
	inZone(t, "Europe/Berlin")
	for _, name := range []string{"20240229-235959", "20230229-000000", "20261301-000000", "20260001-000000", "20260100-000000", "20260431-000000",
		"20260101-240000", "20260101-006000", "20260101-000060", "20260329-023000", "20261025-023000", "00000101-000000"} {
		wantSame(t, name)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		name := []byte("20260228-235959")
		for range 1 + rng.IntN(4) {
			if at := rng.IntN(len(name)); name[at] != '-' {
				name[at] = byte('0' + rng.IntN(10))
			}
		}
		wantSame(t, string(name))
	}
	for _, name := range []string{"", "20260101-00000", "20260101-0000000", "20260101 000000", "2026010a-000000", "20260101-00000:", "-0260101-000000", "20260101-00000.1"} {
		if at, ok := (Naming{}).Time(name); ok {
			t.Errorf("%q is %v", name, at)
		}
	}
}

func wantSame(t *testing.T, name string) {
	t.Helper()
	want, err := time.ParseInLocation(layouts[Seconds], name, time.Local)
	if got, ok := (Naming{}).Time(name); ok != (err == nil) || ok && !got.Equal(want) {
		t.Errorf("%s is %v, %t; want %v, %v", name, got, ok, want, err)
	}
}
