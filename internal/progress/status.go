package progress

import (
	"fmt"
	"strings"
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

	remaining time.Duration // at that rate
	canTell   bool          // remaining
}

func (s status) known() bool { return s.total.Bytes > 0 }

func (s status) percent() int {
	return int(100 * float64(s.bytes) / float64(s.total.Bytes))
}

// estimate returns the time left at the present rate, and whether it can be told.
func (s status) estimate() (time.Duration, bool) {
	if !s.known() || s.rate <= 0 {
		return 0, false
	}
	seconds := float64(s.total.Bytes-s.bytes) / s.rate
	if seconds >= maxRemaining.Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// sentence returns "1.2 GiB of 3.4 GiB (35 %), 56 MiB/s, 40 s left".
func (s status) sentence() string {
	text, left := Bytes(s.bytes), "%s left"
	switch {
	case s.known() && s.total.AtMost:
		text += fmt.Sprintf(" of at most %s (at least %d %%)", Bytes(s.total.Bytes), s.percent())
		left = "at most %s left"
	case s.known():
		text += fmt.Sprintf(" of %s (%d %%)", Bytes(s.total.Bytes), s.percent())
	}
	text += ", " + speed(s.rate)
	if s.canTell {
		text += ", " + fmt.Sprintf(left, Duration(s.remaining))
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

// percentage returns "35%", or nothing while the total is unknown.
func (s status) percentage() string {
	if !s.known() {
		return ""
	}
	return fmt.Sprintf("%d%%", s.percent())
}

// amount returns "1.2/3.4 GiB", in the unit of the total, or "1.2 GiB" while that is unknown.
func (s status) amount() string {
	if !s.known() {
		return Bytes(s.bytes)
	}
	total, unit, _ := strings.Cut(Bytes(s.total.Bytes), " ")
	part := float64(s.bytes)
	for _, u := range append([]string{"B"}, units...) {
		if u == unit {
			break
		}
		part /= 1024
	}
	return number(part) + "/" + total + " " + unit
}

// left returns "0:40 left", or "5h03 left", or nothing where it cannot be told.
func (s status) left() string {
	if !s.canTell {
		return ""
	}
	seconds := int(s.remaining.Round(time.Second) / time.Second)
	if seconds < 3600 {
		return fmt.Sprintf("%d:%02d left", seconds/60, seconds%60)
	}
	return fmt.Sprintf("%dh%02d left", seconds/3600, seconds/60%60)
}
