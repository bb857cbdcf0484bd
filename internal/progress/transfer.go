package progress

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Total is how much a transfer will move.
type Total struct {
	Bytes  int64
	AtMost bool // Bytes is an upper bound, as for compressed data
}

// A Transfer is one snapshot on its way to one destination.
type Transfer struct {
	ctx     context.Context // of who started it
	display *Display
	title   string
	began   time.Time
	bytes   atomic.Int64
	wire    atomic.Int64
	meter   meter // and what follows: guarded by display.mu
	clock   countdown
	watched gauge // by who watches, at other times than those at which it is shown

	measure   func() // asks for the total; only the first call counts
	measured  atomic.Pointer[Total]
	measuring sync.WaitGroup
	cancel    context.CancelFunc
}

func newTransfer(ctx context.Context, d *Display, title string, total func(context.Context) (Total, error)) *Transfer {
	run := ctx
	ctx, cancel := context.WithCancel(ctx)
	now := time.Now()
	t := &Transfer{ctx: run, display: d, title: Line(title), began: now, meter: newMeter(now), watched: gauge{meter: newMeter(now)}, cancel: cancel}
	t.measure = sync.OnceFunc(func() {
		if total == nil {
			return
		}
		t.measuring.Go(func() {
			if m, err := total(ctx); err == nil {
				t.measured.Store(&m)
			}
		})
	})
	return t
}

// Add counts n bytes that have gone by.
func (t *Transfer) Add(n int64) { t.bytes.Add(n) }

// Set sets the count, for a program that tells how far it is.
func (t *Transfer) Set(n int64) { t.bytes.Store(n) }

// SetTotal replaces the total by one that is better known.
func (t *Transfer) SetTotal(total Total) { t.measured.Store(&total) }

// AddWire counts n bytes that crossed a network, which may be fewer or more than
// those of the stream. From the first on, they are shown too.
func (t *Transfer) AddWire(n int64) { t.wire.Add(n) }

// Resume sets the count to what went by before, also in an earlier run. The
// rate is that of what follows.
func (t *Transfer) Resume(n int64) {
	t.display.mu.Lock()
	defer t.display.mu.Unlock()
	t.bytes.Store(n)
	t.meter.restart(time.Now(), n)
	t.clock = countdown{}
	t.watched.meter.restart(time.Now(), n)
	t.watched.clock = countdown{}
}

// Done ends the transfer: err says why it failed, nil that it is complete. If its context has ended, it is as Vanish: who ended
// it tells so.
// When it returns, nothing reads the snapshot for its total any more: a
// subvolume that is being read by a send cannot be deleted.
func (t *Transfer) Done(err error) {
	t.display.finish(t, func(v view) {
		if t.ctx.Err() == nil {
			v.finished(t, err)
		}
	})
	t.stopMeasuring()
}

// Vanish is Done, without a line about the outcome, which is told elsewhere.
func (t *Transfer) Vanish() {
	t.display.finish(t, func(view) {})
	t.stopMeasuring()
}

// stopMeasuring may only be called when t is no longer among the running
// transfers, since these may begin to measure at any time.
func (t *Transfer) stopMeasuring() {
	t.cancel()
	t.measuring.Wait()
}

// status takes a new sample of t.
func (t *Transfer) status() status { return t.sample(&t.meter, &t.clock) }

// sample takes one for whoever has the meter and the clock.
func (t *Transfer) sample(m *meter, clock *countdown) status {
	n, now := t.bytes.Load(), time.Now()
	s := status{bytes: n, wire: t.wire.Load(), rate: m.sample(now, n)}
	// A total that was overtaken was wrong, and is not shown any more.
	if total := t.measured.Load(); total != nil && n <= total.Bytes {
		s.total = *total
	}
	if left, ok := s.estimate(); ok && now.Sub(m.began) >= settled {
		s.remaining, s.canTell = clock.show(left, now, n), true
	}
	return s
}
