package progress

import (
	"fmt"
	"time"
)

// maxRemaining is the longest remaining time worth telling: beyond it the
// transfer rather stands still.
const maxRemaining = 100 * time.Hour

// A status is how far a transfer has come.
type status struct {
	bytes int64
	wire  int64   // bytes that crossed a network; 0 where there is none
	total Total   // zero while unknown
	rate  float64 // bytes per second
}

func (s status) known() bool { return s.total.Bytes > 0 }

func (s status) percent() int {
	return int(100 * float64(s.bytes) / float64(s.total.Bytes))
}

// remaining returns the time left at the present rate, and whether it can be told.
func (s status) remaining() (time.Duration, bool) {
	if !s.known() || s.rate <= 0 {
		return 0, false
	}
	seconds := float64(s.total.Bytes-s.bytes) / s.rate
	if seconds >= maxRemaining.Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// amount returns "1.2 GiB of 3.4 GiB", or with atMost before the total if that
// is an upper bound.
func (s status) amount(atMost string) string {
	switch {
	case !s.known():
		return Bytes(s.bytes)
	case s.total.AtMost:
		return Bytes(s.bytes) + " of " + atMost + " " + Bytes(s.total.Bytes)
	default:
		return Bytes(s.bytes) + " of " + Bytes(s.total.Bytes)
	}
}

// sentence returns "1.2 GiB of 3.4 GiB (35 %), 56 MiB/s, 40 s left".
func (s status) sentence() string {
	percentage, left := "(%d %%)", "%s left"
	if s.total.AtMost {
		percentage, left = "(at least %d %%)", "at most %s left"
	}
	text := s.amount("at most")
	if s.known() {
		text += " " + fmt.Sprintf(percentage, s.percent())
	}
	text += ", " + speed(s.rate)
	if d, ok := s.remaining(); ok {
		text += ", " + fmt.Sprintf(left, Duration(d))
	}
	return text + s.onWire()
}

// onWire returns ", 400 MiB on the wire", or nothing where there is no wire.
func (s status) onWire() string {
	if s.wire == 0 {
		return ""
	}
	return ", " + Bytes(s.wire) + " on the wire"
}

// columns returns "35 %    56 MiB/s  0:00:40  1.2 GiB of 3.4 GiB", with a place
// kept for what is unknown, or "35 %+" and "of max 3.4 GiB" for an upper bound.
// The widest part stands last, where a narrow terminal cuts it off.
func (s status) columns() string {
	var percentage, left string
	if s.known() {
		percentage = fmt.Sprintf("%2d %%", s.percent())
		if s.total.AtMost {
			percentage += "+"
		}
	}
	if d, ok := s.remaining(); ok {
		left = clock(d)
	}
	return fmt.Sprintf("%-5s  %9s  %7s  %-18s", percentage, speed(s.rate), left, s.amount("max"))
}
