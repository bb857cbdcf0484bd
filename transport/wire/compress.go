package wire

import (
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A load is what a sender did in a period.
type load struct {
	full    float64 // the part of the connections' time in which the link, or the limit, made them wait
	backlog float64 // the part of what was in flight that waited for the far side's writer
	raw     float64 // bytes per second of the stream
	wire    float64 // the same on the wire
	speed   float64 // bytes per second of the stream that could be compressed
}

// A choice tells whether compression makes a transfer faster.
type choice struct {
	on       bool
	capacity float64 // bytes per second that the link carried when it was full
	failures int     // times that compression did not pay, less those that it did
	hold     int     // periods until it is tried again
}

const (
	fullLink    = 0.5
	slowWriter  = 0.4 // less is usual, as blocks overtake each other
	speedMargin = 2   // compression must be that much faster than the link: it shares the processors with much else
	maxFailures = 5
)

// update looks at one more period.
func (c *choice) update(l load) {
	c.hold = max(0, c.hold-1)
	full := l.full >= fullLink
	switch {
	case l.backlog >= slowWriter:
		c.on = false
	case c.on:
		if full { // it carries at least that
			c.capacity = max(c.capacity, l.wire)
		}
		c.review(l)
	case full:
		c.capacity = l.wire
		c.on = c.hold == 0 && c.capacity*speedMargin < l.speed
	}
}

// review tells whether compression pays. Where processors are short, a link looks full that waits for those who compress,
// and only what the transfer came to tells. After each failure it is tried again later.
func (c *choice) review(l load) {
	c.on = l.raw > 0.9*c.capacity && c.capacity*speedMargin < l.speed
	switch {
	case !c.on:
		c.failures = min(c.failures+1, maxFailures)
		c.hold = 1<<c.failures - 1
	case l.raw > 1.1*c.capacity:
		c.failures = max(0, c.failures-1)
	}
}

// A sieve keeps a connection from compressing what does not shrink.
type sieve struct {
	misses int // blocks in a row that did not shrink
	skip   int // blocks not to try
}

// try tells whether to compress the next block.
func (s *sieve) try() bool {
	if s.skip > 0 {
		s.skip--
		return false
	}
	return true
}

// tried notes how that went.
func (s *sieve) tried(shrank bool) {
	if shrank {
		*s = sieve{}
		return
	}
	s.misses++
	switch {
	case s.misses >= 16:
		s.skip = 63
	case s.misses >= 4:
		s.skip = 15
	}
}

// A packer compresses the blocks of one connection.
type packer struct {
	encoder *zstd.Encoder
	sieve   sieve
	frame   []byte
}

func newPacker() *packer {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(true), zstd.WithWindowSize(maxBlock))
	if err != nil {
		panic(err)
	}
	return &packer{encoder: encoder, frame: make([]byte, 0, blockHeader+2*blockSize)}
}

// pack returns the frame of a block, which is valid until the next call, and the time that compression took, or 0. Bytes
// that do not shrink by a tenth are not worth the far side's time.
func (p *packer) pack(b *block, mode Compression) (frame []byte, took time.Duration) {
	h := header{offset: b.offset, raw: uint32(len(b.raw)), payload: uint32(len(b.raw))}
	frame = b.buf[:blockHeader+len(b.raw)]
	switch {
	case b.end:
		h.flags = flagEnd
	case mode == Zstd, mode == Auto && p.sieve.try():
		began := time.Now()
		z := p.encoder.EncodeAll(b.raw, p.frame[:blockHeader])
		took = max(time.Since(began), 1)
		shrank := len(z)-blockHeader <= len(b.raw)/10*9
		p.sieve.tried(shrank)
		if shrank {
			frame, h.flags, h.payload = z, flagZstd, uint32(len(z)-blockHeader)
		}
	}
	h.put(frame)
	return frame, took
}

// A meter measures the load.
type meter struct {
	began       time.Duration
	full, other time.Duration // of all connections: waiting for the link; for the stream, and compressing
	raw, wire   int
	backlog     float64 // integral of level
	level       float64 // the last known
	levelAt     time.Duration
	speed       float64 // of one compressor, over all periods; 0 if unknown
}

const (
	meterPeriod  = 250 * time.Millisecond
	assumedSpeed = 300e6
)

// compressed notes how long compressing n bytes took.
func (m *meter) compressed(n int, took time.Duration) {
	speed := float64(n) / took.Seconds()
	if m.speed == 0 {
		m.speed = speed
	}
	m.speed += (speed - m.speed) / 16
}

// waiting notes what part of what is in flight waits for the far side's writer.
func (m *meter) waiting(level float64, now time.Duration) {
	m.backlog += m.level * (now - m.levelAt).Seconds()
	m.level, m.levelAt = level, now
}

// load ends a period, if it was long enough.
func (m *meter) load(now time.Duration, conns int) (load, bool) {
	period := now - m.began
	if period < meterPeriod {
		return load{}, false
	}
	m.waiting(m.level, now)
	l := load{
		full:    m.full.Seconds() / max((m.full+m.other).Seconds(), 1e-9),
		backlog: m.backlog / period.Seconds(),
		raw:     float64(m.raw) / period.Seconds(),
		wire:    float64(m.wire) / period.Seconds(),
		speed:   m.speed * float64(min(conns, runtime.GOMAXPROCS(0))),
	}
	if m.speed == 0 {
		l.speed = assumedSpeed * float64(min(conns, runtime.GOMAXPROCS(0)))
	}
	*m = meter{began: now, level: m.level, levelAt: now, speed: m.speed}
	return l, true
}
