package wire

import "testing"

func TestCompressionThatSlowsATransferIsTriedLessAndLess(t *testing.T) {
	// the link is not what is full: they all share too few processors
	plain := load{full: 0.9, wire: 130e6, raw: 130e6, speed: 400e6}
	packed := load{full: 0.7, wire: 25e6, raw: 70e6, speed: 300e6}
	if on := periods(plain, packed); on == 0 || on > 10 {
		t.Errorf("on in %d of 100 periods", on)
	}
}

func TestCompressionThatSpeedsATransferUpStaysOn(t *testing.T) {
	plain, packed := load{full: 0.9, wire: 20e6, raw: 20e6, speed: 400e6}, load{full: 0.9, wire: 20e6, raw: 60e6, speed: 400e6}
	if on := periods(plain, packed); on != 100 {
		t.Errorf("on in %d of 100 periods", on)
	}
}

// periods counts in how many of 100 periods compression is on, which have one load with it and another one without.
func periods(plain, packed load) int {
	var c choice
	on := 0
	for range 100 {
		if c.on {
			c.update(packed)
		} else {
			c.update(plain)
		}
		if c.on {
			on++
		}
	}
	return on
}
