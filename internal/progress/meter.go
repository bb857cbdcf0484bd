package progress

import "time"

// memory is how far back a rate looks: short enough to show that a transfer
// slowed down, long enough for a steady remaining time.
const memory = 10 * time.Second

// A meter tells the recent rate of a count that grows.
type meter struct {
	began   time.Time
	last    time.Time
	bytes   int64   // at the last sample
	skipped int64   // not counted for the average
	rate    float64 // bytes per second
}

func newMeter(now time.Time) meter {
	return meter{began: now, last: now}
}

// restart makes what was counted so far not count for the rate.
func (m *meter) restart(now time.Time, bytes int64) {
	*m = newMeter(now)
	m.bytes, m.skipped = bytes, bytes
}

// sample returns the rate now that the count is bytes. It is the average since
// the beginning or the last sample, whichever is nearer to memory, and in
// between an exponential moving average.
func (m *meter) sample(now time.Time, bytes int64) float64 {
	passed := now.Sub(m.last)
	if passed <= 0 {
		return m.rate
	}
	latest := float64(bytes-m.bytes) / passed.Seconds()
	weight := float64(passed) / float64(min(memory, now.Sub(m.began)))
	m.rate += (latest - m.rate) * min(1, weight)
	m.last, m.bytes = now, bytes
	return m.rate
}

// average returns the rate since the beginning.
func (m *meter) average(now time.Time, bytes int64) float64 {
	passed := now.Sub(m.began)
	if passed <= 0 {
		return 0
	}
	return float64(bytes-m.skipped) / passed.Seconds()
}

// settled is after how long a rate tells the remaining time. Before, a single step of the count weighs too much.
const settled = 5 * time.Second

// A countdown shows a remaining time. It does not rise while an estimate merely varies, as that of a count which grows in steps
// does: a count that stands still, or an estimate that is a quarter longer, tells that the transfer has slowed down.
type countdown struct {
	shown time.Duration
	bytes int64 // counted since this time
	since time.Time
}

func (c *countdown) show(estimate time.Duration, now time.Time, bytes int64) time.Duration {
	const little = 3 * time.Second
	if bytes != c.bytes {
		c.bytes, c.since = bytes, now
	}
	if c.shown == 0 || estimate < c.shown || now.Sub(c.since) > little || estimate > c.shown+c.shown/4+little {
		c.shown = estimate
	}
	return c.shown
}
