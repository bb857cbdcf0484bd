// Package progress shows the transfers of one run, which go on side by side:
// as bars on a terminal, as plain lines elsewhere, or not at all.
//
// Counting is one atomic addition. All else happens in the background, a
// failure to measure or to show progress never fails a transfer, and after
// Close nothing is written and no goroutine is left.
package progress

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"
)

// A Display shows the running transfers. Its methods are safe for concurrent use. A nil one can be started on, and shows nothing.
type Display struct {
	mu      sync.Mutex
	view    view
	running []*Transfer // in the order they started

	closing sync.Once
	closed  chan struct{}
	ticking sync.WaitGroup
}

// A view is one way to show transfers. Its methods are called with Display.mu held.
type view interface {
	// refresh shows the running transfers that are due to be shown.
	refresh(running []*Transfer)
	// finished shows the end of a transfer.
	finished(t *Transfer, err error)
}

type silent struct{}

func (silent) refresh([]*Transfer)       {}
func (silent) finished(*Transfer, error) {}

// Silent returns a Display that shows nothing and never asks for a total.
func Silent() *Display {
	return &Display{view: silent{}, closed: make(chan struct{})}
}

// newDisplay returns a Display that refreshes v once per period until it is closed.
func newDisplay(v view, period time.Duration) *Display {
	d := &Display{view: v, closed: make(chan struct{})}
	d.ticking.Go(func() { d.tick(period) })
	return d
}

func (d *Display) tick(period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-d.closed:
			return
		case <-ticker.C:
			d.refresh()
		}
	}
}

func (d *Display) refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view.refresh(d.running)
}

// Start shows a new transfer until its Done is called. The title names the
// destination and the snapshot.
//
// The total may cost a pass over the snapshot, so it is called at most once,
// in the background, and only if there is someone to show it to: after a
// second with bars, when the first line is due with lines. It must return soon
// after its context ends, which Done and Close wait for. It may be nil, and may
// fail: the transfer is then shown without percentage and remaining time.
func (d *Display) Start(ctx context.Context, title string, total func(context.Context) (Total, error)) *Transfer {
	if d == nil {
		d = Silent()
	}
	t := newTransfer(ctx, d, title, total)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = append(d.running, t)
	d.view.refresh(d.running)
	return t
}

// finish takes a transfer from those shown, and says what became of it.
func (d *Display) finish(t *Transfer, say func(view)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.running, t)
	if i < 0 {
		return
	}
	d.running = slices.Delete(d.running, i, i+1)
	say(d.view)
	d.view.refresh(d.running)
}

// Close removes the bars, leaves the cursor at the start of a line, and waits
// for the goroutines of d. Transfers still running may go on, unseen. Closing
// twice is harmless.
func (d *Display) Close() {
	d.closing.Do(func() { close(d.closed) })
	d.ticking.Wait()
	for _, t := range d.hide() {
		t.stopMeasuring()
	}
}

// hide ends all showing and returns the transfers that were shown.
func (d *Display) hide() []*Transfer {
	d.mu.Lock()
	defer d.mu.Unlock()
	shown := d.running
	d.running = nil
	d.view.refresh(nil)
	d.view = silent{}
	return shown
}

// Writer returns a writer to w, for text that shares the terminal with the
// bars: they make way for it and are drawn again below. Each Write must end
// with a newline, as those of log and log/slog do.
func (d *Display) Writer(w io.Writer) io.Writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.view.(*bars)
	if !ok {
		return w
	}
	return &writerAbove{display: d, bars: b, w: w}
}

type writerAbove struct {
	display *Display
	bars    *bars
	w       io.Writer
}

func (a *writerAbove) Write(p []byte) (int, error) {
	a.display.mu.Lock()
	defer a.display.mu.Unlock()
	a.bars.clear()
	n, err := a.w.Write(p)
	a.display.view.refresh(a.display.running)
	return n, err
}
