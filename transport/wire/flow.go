package wire

import (
	"slices"
	"time"
)

// A flow decides how much of a stream may be in flight: sent, but not taken by the far side's writer. What is in flight is
// lost when a connection breaks, so it is no more than needed, twice what the link holds:
//
//	window = 2 x the highest recent rate of taken bytes x the lowest recent round trip
//
// as in BBR (Cardwell et al., ACM Queue 14-5, 2016). As long as the window is what limits the rate, the factor doubles it
// with each round trip; afterwards it keeps the link busy. Within these bounds: minWindow keeps all connections busy where
// the round trip is short, and more than an SSH channel takes per round trip would only wait.
//
// A round trip measured while data is queued, in the link or for the far side's disk, would let the window grow, hence the
// queue, hence the round trip. So it is the time until a block has arrived (not: is taken) that was sent when all before it
// had. Where that does not come about by itself, the flow waits for it, now and then.
type flow struct {
	sent, taken, arrived uint64 // offsets in the stream
	heard                bool   // the far side is there

	trips     [4]time.Duration // the lowest of each of the last periods, the newest first; 0 is none
	sample    uint64           // its block has arrived when arrived is this; 0 if there is none
	sampledAt time.Duration
	alone     bool // nothing else is sent until it has
	due       time.Duration
	period    time.Duration

	past    []mark      // at least a span of it, the oldest first
	rates   [10]float64 // the highest, in bytes per second, of each of the last spans, the newest first
	spanEnd time.Duration

	density float64 // bytes on the wire per byte of the stream, on average
}

// A mark tells what was taken by when.
type mark struct {
	at    time.Duration
	taken uint64
}

const (
	minWindow   = 1 << 20
	maxWindow   = maxAhead - maxBlock
	perChannel  = 3 << 20 // half as much again as golang.org/x/crypto/ssh and OpenSSH let be under way, so that some waits
	minSpan     = 50 * time.Millisecond
	firstPeriod = time.Second
	lastPeriod  = 16 * time.Second
)

func newFlow(offset uint64) flow {
	return flow{sent: offset, taken: offset, arrived: offset, period: firstPeriod, density: 1}
}

// admit tells whether a block of n bytes may be sent now. If so, it counts as sent.
func (f *flow) admit(n, conns int, now time.Duration) bool {
	empty, measure := f.sent == f.arrived, f.heard && now >= f.due
	switch {
	case f.alone, measure && !empty:
		return false
	case f.sent > f.taken && f.sent-f.taken+uint64(n) > f.window(conns):
		return false
	}
	if len(f.past) == 0 {
		f.past = append(f.past, mark{now, f.taken})
	}
	f.sent += uint64(n)
	if empty && f.heard {
		f.sample, f.sampledAt, f.alone = f.sent, now, measure
	}
	return true
}

// acknowledge notes what the far side has.
func (f *flow) acknowledge(taken, arrived uint64, now time.Duration) {
	f.heard = true
	f.taken, f.arrived = max(f.taken, taken), max(f.arrived, arrived)
	if f.sample > 0 && f.arrived >= f.sample {
		f.measured(now-f.sampledAt, now)
	}
	f.delivered(now)
}

// delivered measures the rate over at least a round trip: blocks that are sent in a burst are taken in one.
func (f *flow) delivered(now time.Duration) {
	span := max(minSpan, f.trip())
	for len(f.past) > 1 && f.past[1].at <= now-span {
		f.past = f.past[1:]
	}
	if now >= f.spanEnd {
		copy(f.rates[1:], f.rates[:])
		f.rates[0], f.spanEnd = 0, now+span
	}
	if len(f.past) > 0 && f.past[0].at <= now-span {
		f.rates[0] = max(f.rates[0], float64(f.taken-f.past[0].taken)/(now-f.past[0].at).Seconds())
	}
	if n := len(f.past); n > 1 && now-f.past[n-2].at < span/16 {
		f.past[n-1] = mark{now, f.taken}
	} else {
		f.past = append(f.past, mark{now, f.taken})
	}
}

// measured notes a round trip.
func (f *flow) measured(trip, now time.Duration) {
	trip = max(trip, 1)
	switch {
	case f.alone:
		copy(f.trips[1:], f.trips[:])
		f.trips[0] = trip
		f.due, f.period = now+f.period, min(2*f.period, lastPeriod)
	case f.trips[0] > 0:
		f.trips[0] = min(f.trips[0], trip)
	}
	f.sample, f.alone = 0, false
}

// packed notes how many bytes a block of n took on the wire.
func (f *flow) packed(n, wire int) {
	f.density += (float64(wire)/float64(n) - f.density) / 32
}

// trip is the lowest recent round trip.
func (f *flow) trip() time.Duration {
	lowest := f.trips[0]
	for _, t := range f.trips {
		if t > 0 {
			lowest = min(lowest, t)
		}
	}
	return lowest
}

// rate is the highest recent one, in bytes of the stream per second; 0 before it is known.
func (f *flow) rate() float64 { return slices.Max(f.rates[:]) }

// window is how many bytes of the stream may be in flight.
func (f *flow) window(conns int) uint64 {
	ceiling := min(float64(conns)*perChannel/f.density, maxWindow)
	return uint64(max(min(2*f.rate()*f.trip().Seconds(), ceiling), minWindow))
}

// block is how many bytes are to be in the next block: no more than pass in a second, since only whole blocks are acknowledged.
// The first ones, of a rate that is not known, are small.
func (f *flow) block() int {
	const packet, smallest = 32 << 10, 8 << 10 // one packet of SSH
	rate := f.rate()
	switch {
	case rate == 0:
		return packet - blockHeader
	case rate >= blockSize:
		return blockSize
	}
	return max(int(rate), smallest)
}

// backlog is the part of what is in flight that only waits for the far side's writer.
func (f *flow) backlog() float64 {
	if f.sent == f.taken {
		return 0
	}
	return float64(f.arrived-f.taken) / float64(f.sent-f.taken)
}
