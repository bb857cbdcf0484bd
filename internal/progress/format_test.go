package progress

import (
	"math"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	tests := map[int64]string{
		0:              "0 B",
		999:            "999 B",
		1000:           "1.0 KiB",
		10188:          "9.9 KiB",
		10189:          "10 KiB",
		56 * mib:       "56 MiB",
		999 * mib:      "999 MiB",
		1000 * mib:     "1.0 GiB",
		1288490189:     "1.2 GiB",
		math.MaxInt64:  "8.0 EiB",
		1023 * gib:     "1.0 TiB",
		5 * 1024 * gib: "5.0 TiB",
	}
	for n, want := range tests {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	tests := map[time.Duration]string{
		0:                          "0.0 s",
		400 * time.Millisecond:     "0.4 s",
		9949 * time.Millisecond:    "9.9 s",
		9950 * time.Millisecond:    "10 s",
		59499 * time.Millisecond:   "59 s",
		59500 * time.Millisecond:   "1 min",
		200 * time.Second:          "3 min 20 s",
		3599600 * time.Millisecond: "1 h",
		2*time.Hour + 5*time.Minute + 20*time.Second: "2 h 5 min",
		30 * time.Hour: "30 h",
	}
	for d, want := range tests {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestRemainingTimeInAColumn(t *testing.T) {
	for seconds, want := range map[int64]string{0: "0:00 left", 6: "0:06 left", 3599: "59:59 left", 3600: "1h00 left", 90_200: "25h03 left"} {
		s := status{remaining: time.Duration(seconds) * time.Second, canTell: true}
		if got := s.left(); got != want {
			t.Errorf("%d s: %q, want %q", seconds, got, want)
		}
	}
}

func TestAmountsAreInTheUnitOfTheTotal(t *testing.T) {
	for _, test := range []struct {
		bytes, total int64
		want         string
	}{
		{105 * mib, 220 * mib, "105/220 MiB"}, {105 * mib, 3 * gib, "0.1/3.0 GiB"}, {999 * mib, 1023 * mib, "1.0/1.0 GiB"},
		{5, 900, "5.0/900 B"}, {5 * mib, 0, "5.0 MiB"},
	} {
		if got := (status{bytes: test.bytes, total: Total{Bytes: test.total}}).amount(); got != test.want {
			t.Errorf("%d of %d: %q, want %q", test.bytes, test.total, got, test.want)
		}
	}
}

func TestStandstillHasNoRemainingTime(t *testing.T) {
	for _, rate := range []float64{0, 1e-300, 1} {
		s := status{total: Total{Bytes: gib}, rate: rate}
		if d, ok := s.estimate(); ok {
			t.Errorf("%v left at %g B/s", d, rate)
		}
	}
}
