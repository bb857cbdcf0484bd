package wire

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// slowDisk takes so many bytes per second.
type slowDisk struct{ rate float64 }

func (d slowDisk) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(float64(len(p)) / d.rate * 1e9))
	return len(p), nil
}

// A trial runs a stream over a line, in the time of a bubble.
type trial struct {
	line        *line
	conns       int
	size        int
	disk        io.Writer
	compression Compression
	limit       *rate.Limiter
	block       []byte // is repeated

	took     time.Duration
	inFlight int // the most of the second half
	window   int // at the end
	wire     int
}

func (x *trial) run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wire atomic.Int64
		s := NewSender(SenderOptions{Compression: x.compression, Limit: x.limit, Wire: func(n int) { wire.Add(int64(n)) }})
		r := NewReceiver(ReceiverOptions{})
		for range x.conns {
			a, b := x.line.connect()
			s.Add(a)
			r.Add(b)
		}
		if x.disk == nil {
			x.disk = io.Discard
		}
		if x.block == nil {
			x.block = make([]byte, 1<<20)
		}
		done := make(chan error, 1)
		began := time.Now()
		go func() {
			for at := 0; at < x.size; at += len(x.block) {
				if _, err := s.Write(x.block); err != nil {
					done <- err
					return
				}
				s.mu.Lock()
				if at > x.size/2 {
					x.inFlight = max(x.inFlight, int(s.flow.sent-s.flow.taken))
				}
				x.window = int(s.flow.window(x.conns))
				s.mu.Unlock()
			}
			done <- s.Close()
		}()
		_, err := r.WriteTo(x.disk)
		if sendErr := <-done; err != nil || sendErr != nil {
			t.Fatal(err, sendErr)
		}
		x.took, x.wire = time.Since(began), int(wire.Load())
	})
}

func TestASlowDiskDoesNotWidenTheWindow(t *testing.T) {
	x := trial{line: &line{delay: 100 * time.Microsecond, rate: 1e9}, conns: 4, size: 400e6, disk: slowDisk{10e6}, compression: None}
	x.run(t)
	if x.inFlight > minWindow || x.window > minWindow {
		t.Errorf("%d bytes in flight, window %d", x.inFlight, x.window)
	}
}

func TestASlowLinkDoesNotWidenTheWindow(t *testing.T) {
	for _, conns := range []int{1, 4} {
		x := trial{line: &line{delay: time.Millisecond / 2, rate: 12.5e6}, conns: conns, size: 500e6, compression: None}
		x.run(t)
		if x.inFlight > minWindow || x.window > minWindow {
			t.Errorf("%d connections: %d bytes in flight, window %d", conns, x.inFlight, x.window)
		}
		if x.took > 42*time.Second {
			t.Errorf("%d connections: %v", conns, x.took)
		}
	}
}

func TestALongLinkIsFilledAsFarAsItsChannelsAllow(t *testing.T) {
	const delay, perTrip = 50 * time.Millisecond, 2 << 20
	single := 300e6 / (perTrip / (2 * delay).Seconds()) // seconds at best over one
	x := trial{line: &line{delay: delay, cap: perTrip}, conns: 4, size: 300e6, compression: None}
	x.run(t)
	t.Logf("%v instead of %.1fs, %d bytes in flight, window %d", x.took, single, x.inFlight, x.window)
	if x.took.Seconds() > single/2.5 {
		t.Errorf("%v where one connection takes %.1fs", x.took, single)
	}
	if x.window > 4*perChannel {
		t.Errorf("window %d is more than the channels carry", x.window)
	}
}

func TestTheWindowFollowsALinkThatIsNotTheChannels(t *testing.T) {
	x := trial{line: &line{delay: 20 * time.Millisecond, rate: 50e6}, conns: 8, size: 500e6, compression: None}
	x.run(t)
	if x.window < 2e6 || x.window > 6e6 { // the link holds 2 MB
		t.Errorf("window %d", x.window)
	}
	if x.took > 11*time.Second {
		t.Error(x.took)
	}
}

func TestALateBeginningIsNotARoundTrip(t *testing.T) {
	f := newFlow(0)
	now := time.Duration(0)
	if !f.admit(blockSize, 8, now) {
		t.Fatal("the first block waits")
	}
	now += 10 * time.Second // until there is a receiver
	f.acknowledge(0, 0, now)
	f.acknowledge(blockSize, blockSize, now)
	for range 100 {
		for f.admit(blockSize, 8, now) {
		}
		now += time.Millisecond
		f.acknowledge(f.sent, f.sent, now)
	}
	if f.trip() != time.Millisecond {
		t.Errorf("round trips of a millisecond seem to be %v", f.trip())
	}
}

func TestTheFarSidesQueueIsNoRoundTrip(t *testing.T) {
	f := newFlow(0)
	now := time.Duration(0)
	f.acknowledge(0, 0, now)
	for range 100 {
		for f.admit(blockSize, 4, now) {
		}
		now += time.Millisecond
		f.acknowledge(f.taken, f.sent, now) // it arrives soon
		f.admit(blockSize, 4, now)
		now += time.Second
		f.acknowledge(f.arrived, f.sent, now) // and is taken late
	}
	if f.trip() != time.Millisecond || f.window(4) != minWindow {
		t.Errorf("round trip %v, window %d", f.trip(), f.window(4))
	}
}

func TestAMeasurementWaitsForTheLinkNotForTheDisk(t *testing.T) {
	f := newFlow(0)
	f.acknowledge(0, 0, 0)
	if !f.admit(blockSize, 4, 0) || f.admit(blockSize, 4, 0) {
		t.Fatal("the first measurement is not of a block on its own")
	}
	f.acknowledge(blockSize, blockSize, time.Millisecond)
	f.admit(blockSize, 4, time.Millisecond)
	due := time.Hour
	if f.admit(blockSize, 4, due) {
		t.Error("a measurement begins while a block is in the link")
	}
	f.acknowledge(blockSize, 2*blockSize, due)
	if !f.admit(blockSize, 4, due) {
		t.Error("a measurement waits for the disk")
	}
}

func TestTheWindowOfAChannelCountsWhatGoesThroughIt(t *testing.T) {
	f := newFlow(0)
	f.trips[0], f.rates[0] = time.Second, 1e9
	if f.window(2) != 2*perChannel {
		t.Errorf("window %d", f.window(2))
	}
	for range 1000 {
		f.packed(blockSize, blockSize/4)
	}
	if w := f.window(2); w < 7*perChannel || w > 8*perChannel {
		t.Errorf("window %d of data that shrinks to a quarter", w)
	}
	if w := f.window(100); w != maxWindow {
		t.Errorf("window %d is more than a receiver takes", w)
	}
}

func TestAutoCompressesWhereTheLinkIsTheBottleneck(t *testing.T) {
	text := bytes.Repeat([]byte("all work and no play makes jack a dull boy\n"), 20000)
	random := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(random)
	for name, c := range map[string]struct {
		trial
		compressed bool
	}{
		"slow link":     {trial{line: &line{delay: time.Millisecond, rate: 10e6}, block: text}, true},
		"long link":     {trial{line: &line{delay: 50 * time.Millisecond, cap: 2 << 20}, block: text}, true},
		"limit":         {trial{line: &line{}, limit: rate.NewLimiter(5e6, 64<<10), block: text}, true},
		"slow disk":     {trial{line: &line{delay: time.Millisecond, rate: 100e6}, disk: slowDisk{10e6}, block: text}, false},
		"far slow disk": {trial{line: &line{delay: 20 * time.Millisecond, rate: 100e6}, disk: slowDisk{10e6}, block: text}, false},
		"fast link":     {trial{line: &line{delay: time.Millisecond, rate: 100e9}, disk: slowDisk{1e9}, block: text}, false},
		"random data":   {trial{line: &line{delay: time.Millisecond, rate: 10e6}, block: random}, false},
	} {
		c.conns, c.size = 4, 60e6

		c.run(t)
		if share := float64(c.wire) / c.size64(); c.compressed && share > 0.5 || !c.compressed && share < 0.9 {
			t.Errorf("%s: %.2f of the stream on the wire", name, share)
		}
	}
}

func (x *trial) size64() float64 { return float64(x.size) }

func TestTheChoiceToCompress(t *testing.T) {
	busy := load{full: 0.9, wire: 50e6, raw: 50e6, speed: 400e6}
	for name, c := range map[string]struct {
		loads []load
		want  bool
	}{
		"nothing known":               {nil, false},
		"a full link":                 {[]load{busy}, true},
		"a link faster than that":     {[]load{{full: 0.9, wire: 300e6, raw: 300e6, speed: 400e6}}, false},
		"a slow reader":               {[]load{{full: 0.2, wire: 50e6, raw: 50e6, speed: 400e6}}, false},
		"a slow writer":               {[]load{{full: 0.9, backlog: 0.8, wire: 50e6, raw: 50e6, speed: 400e6}}, false},
		"on and no longer full":       {[]load{busy, {full: 0.1, wire: 20e6, raw: 80e6, speed: 400e6}}, true},
		"on and no longer needed":     {[]load{busy, {full: 0.1, wire: 10e6, raw: 30e6, speed: 400e6}}, false},
		"on and the writer is slower": {[]load{busy, {full: 0.9, backlog: 0.8, wire: 20e6, raw: 80e6, speed: 400e6}}, false},
		"off and back on":             {[]load{busy, {full: 0.1, wire: 10e6, raw: 30e6, speed: 400e6}, busy}, true},
		"a compressor that starves":   {[]load{busy, {full: 0.9, wire: 50e6, raw: 60e6, speed: 70e6}}, false},
	} {
		var choice choice
		for _, l := range c.loads {
			choice.update(l)
		}
		if choice.on != c.want {
			t.Errorf("%s: %v", name, choice.on)
		}
	}
}

func TestWhatDoesNotShrinkIsTriedLessAndLess(t *testing.T) {
	var s sieve
	tried := 0
	for range 10000 {
		if s.try() {
			tried++
			s.tried(false)
		}
	}
	if tried < 100 || tried > 200 {
		t.Errorf("%d of 10000 tried", tried)
	}
	for !s.try() {
	}
	s.tried(true)
	for range 5 {
		if !s.try() {
			t.Fatal("not tried after one that shrank")
		}
		s.tried(true)
	}
}

func TestCompressionsHaveNames(t *testing.T) {
	for _, c := range []Compression{Auto, Zstd, None} {
		if got, err := ParseCompression(c.String()); got != c || err != nil {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCompression("lzo"); err == nil {
		t.Error("lzo was accepted")
	}
}
