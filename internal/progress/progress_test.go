package progress

import (
	"bytes"
	"context"
	"errors"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A logbook records the lines it is given.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) log(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *logbook) has(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.lines, want) {
		t.Errorf("lines\n%q\nwant\n%q", l.lines, want)
	}
}

// withLines runs test with a Display that logs a line each 30 s, on a fake clock.
func withLines(t *testing.T, test func(*testing.T, *Display, *logbook)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var l logbook
		d := NewLines(l.log, 30*time.Second)
		defer d.Close()
		test(t, d, &l)
	})
}

func TestLinesTellTheRateSinceTheLastLine(t *testing.T) {
	withLines(t, func(t *testing.T, d *Display, l *logbook) {
		transfer := d.Start(t.Context(), "/mnt/usb: home20261121-044803", exactly(6000*mib))
		transfer.Add(300 * mib)
		pass(30 * time.Second)
		transfer.Add(3000 * mib)
		pass(30 * time.Second)
		pass(30 * time.Second)
		l.has(t,
			"/mnt/usb: home20261121-044803: 300 MiB, 10 MiB/s",
			"/mnt/usb: home20261121-044803: 3.2 GiB of 5.9 GiB (55 %), 100 MiB/s, 27 s left",
			"/mnt/usb: home20261121-044803: 3.2 GiB of 5.9 GiB (55 %), 0 B/s",
		)
	})
}

func TestLinesNameAnUpperBound(t *testing.T) {
	withLines(t, func(t *testing.T, d *Display, l *logbook) {
		transfer := d.Start(t.Context(), "a", atMost(1000*mib))
		pass(30 * time.Second)
		transfer.Add(300 * mib)
		pass(30 * time.Second)
		l.has(t,
			"a: 0 B, 0 B/s",
			"a: 300 MiB of at most 1.0 GiB (at least 30 %), 10 MiB/s, at most 1 min 10 s left",
		)
	})
}

func TestLinesAskForTheTotalOnlyWhenTheFirstLineIsDue(t *testing.T) {
	withLines(t, func(t *testing.T, d *Display, l *logbook) {
		var asked atomic.Int32
		total := func(context.Context) (Total, error) {
			asked.Add(1)
			return Total{Bytes: mib}, nil
		}
		d.Start(t.Context(), "short", total).Done(nil)
		pass(500 * time.Millisecond)
		d.Start(t.Context(), "long", total)
		pass(30 * time.Second)
		if n := asked.Load(); n != 0 {
			t.Errorf("total asked for %d times before a line was due", n)
		}
		pass(time.Minute)
		if n := asked.Load(); n != 1 {
			t.Errorf("total asked for %d times", n)
		}
		l.has(t, "long: 0 B, 0 B/s", "long: 0 B of 1.0 MiB (0 %), 0 B/s")
	})
}

func TestSilentNeverAsksForTheTotal(t *testing.T) {
	d := Silent()
	transfer := d.Start(t.Context(), "a", func(context.Context) (Total, error) {
		t.Error("asked for the total")
		return Total{}, nil
	})
	transfer.Add(1)
	transfer.Done(nil)
	d.Close()
}

func TestShortTransferIsNotMeasured(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, _ *screen) {
		var asked atomic.Bool
		transfer := d.Start(t.Context(), "a", func(context.Context) (Total, error) {
			asked.Store(true)
			return Total{}, nil
		})
		pass(measureAfter / 2)
		if asked.Load() {
			t.Error("asked for the total at once")
		}
		pass(measureAfter)
		if !asked.Load() {
			t.Error("did not ask for the total")
		}
		transfer.Done(nil)
	})
}

func TestOnlyBarsStandInTheWayOfTheLog(t *testing.T) {
	var w bytes.Buffer
	lines := NewLines(func(string) {}, time.Second)
	defer lines.Close()
	for _, d := range []*Display{Silent(), lines} {
		if d.Writer(&w) != &w {
			t.Error("writer is wrapped")
		}
	}
}

func TestEndOfTransferWaitsForTheTotal(t *testing.T) {
	ends := map[string]func(*Display, *Transfer){
		"Done":   func(_ *Display, transfer *Transfer) { transfer.Done(nil) },
		"failed": func(_ *Display, transfer *Transfer) { transfer.Done(errors.New("broken")) },
		"Close":  func(d *Display, _ *Transfer) { d.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			withBars(t, 80, 24, func(t *testing.T, d *Display, _ *screen) {
				ended := false
				transfer := d.Start(t.Context(), "a", func(ctx context.Context) (Total, error) {
					<-ctx.Done()
					time.Sleep(time.Second)
					ended = true
					return Total{}, ctx.Err()
				})
				pass(2 * time.Second)
				end(d, transfer)
				if !ended {
					t.Error("the total is still being measured")
				}
			})
		})
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	for range 20 {
		withLines(t, func(t *testing.T, d *Display, _ *logbook) {
			pass(time.Minute)
			d.Close()
			var stacks bytes.Buffer
			if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(stacks.String(), "(*Display).tick") {
				t.Fatalf("still running:\n%s", &stacks)
			}
		})
	}
}

func TestTransfersRunConcurrently(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		log := d.Writer(s)
		var transfers sync.WaitGroup
		for range 4 {
			transfers.Go(func() {
				transfer := d.Start(t.Context(), "a", exactly(6*mib))
				for range 2 {
					for range 3 {
						transfer.Add(mib)
						time.Sleep(redrawEvery)
					}
					log.Write([]byte("log\n"))
				}
				transfer.Done(nil)
			})
		}
		transfers.Wait()
		d.Close()
		if n := len(s.lines); n != 2*4+4+1 {
			t.Errorf("%d lines:\n%s", n, s)
		}
	})
}

func TestRateFollowsAChangeWithinSeconds(t *testing.T) {
	now := time.Unix(0, 0)
	m := newMeter(now)
	var bytes int64
	run := func(perSecond int64, seconds int) (rate float64) {
		for range seconds * 5 {
			now = now.Add(time.Second / 5)
			bytes += perSecond / 5
			rate = m.sample(now, bytes)
		}
		return rate
	}
	if rate := run(1000, 60); rate < 999 || rate > 1001 {
		t.Errorf("steady rate of 1000 shown as %f", rate)
	}
	if rate := run(0, 30); rate > 60 {
		t.Errorf("rate of 1000 still shown as %f after half a minute of nothing", rate)
	}
}

func TestATransferThatVanishesLeavesNoLine(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		a, b := d.Start(t.Context(), "a", nil), d.Start(t.Context(), "b", nil)
		a.Vanish()
		b.Done(nil)
		b.Vanish()
		s.shows("b: 0 B in 0.0 s, 0 B/s")
	})
}
