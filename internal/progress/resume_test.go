package progress

import (
	"errors"
	"testing"
	"time"
)

func TestRateIsThatOfWhatFollowsAResumption(t *testing.T) {
	withLines(t, func(t *testing.T, d *Display, l *logbook) {
		transfer := d.Start(t.Context(), "a", exactly(6000*mib))
		transfer.Add(300 * mib)
		pass(30 * time.Second)
		transfer.Resume(3000 * mib)
		transfer.Add(300 * mib)
		pass(30 * time.Second)
		transfer.Resume(200 * mib) // the receiver lost some
		transfer.Add(300 * mib)
		pass(30 * time.Second)
		l.has(t,
			"a: 300 MiB, 10 MiB/s",
			"a: 3.2 GiB of 5.9 GiB (55 %), 10 MiB/s, 4 min 30 s left",
			"a: 500 MiB of 5.9 GiB (8 %), 10 MiB/s, 9 min 10 s left",
		)
	})
}

func TestAverageIsThatOfWhatFollowsAResumption(t *testing.T) {
	withBars(t, 100, 24, func(t *testing.T, d *Display, s *screen) {
		transfer := d.Start(t.Context(), "a", exactly(4*gib))
		transfer.Add(gib)
		pass(time.Minute)
		transfer.Resume(3 * gib)
		transfer.Add(100 * mib)
		pass(10 * time.Second)
		s.shows("a  ################....   77%  3.1/4.0 GiB   10 MiB/s  1:32 left")
		transfer.Done(nil)
		s.shows("a: 3.1 GiB in 1 min 10 s, 10 MiB/s")
	})
}

func TestLinesTellOfTheWireWhereThereIsOne(t *testing.T) {
	withLines(t, func(t *testing.T, d *Display, l *logbook) {
		far, near := d.Start(t.Context(), "far", exactly(6000*mib)), d.Start(t.Context(), "near", exactly(6000*mib))
		pass(30 * time.Second)
		for range 2 {
			far.AddWire(200 * mib)
		}
		for _, transfer := range []*Transfer{far, near} {
			transfer.Add(300 * mib)
		}
		pass(30 * time.Second)
		const status = ": 300 MiB of 5.9 GiB (5 %), 10 MiB/s, 9 min 30 s left"
		l.has(t, "far: 0 B, 0 B/s", "near: 0 B, 0 B/s", "far"+status+", 400 MiB on the wire", "near"+status)
	})
}

func TestBarsTellOfTheWireWhereThereIsOne(t *testing.T) {
	withBars(t, 100, 24, func(t *testing.T, d *Display, s *screen) {
		far, near := d.Start(t.Context(), "far", exactly(3*gib)), d.Start(t.Context(), "near", exactly(3*gib))
		far.Add(1 * gib)
		far.AddWire(400 * mib)
		near.Add(1 * gib)
		pass(10 * time.Second)
		s.shows(
			"far   #######.............   33%  1.0/3.0 GiB  102 MiB/s  0:20 left  400 MiB on the wire",
			"near  #######.............   33%  1.0/3.0 GiB  102 MiB/s  0:20 left",
		)
		far.Done(nil)
		near.Done(errors.New("broken"))
		s.shows(
			"far: 1.0 GiB in 10 s, 102 MiB/s, 400 MiB on the wire",
			"near: failed after 1.0 GiB, 10 s",
		)
	})
}

func TestTheWireTakesNoPlaceFromABarInANarrowTerminal(t *testing.T) {
	for width, want := range map[int]string{
		87: "far  #######.............   33%  1.0/3.0 GiB  102 MiB/s  0:20 left",
		88: "far  #######.............   33%  1.0/3.0 GiB  102 MiB/s  0:20 left  400 MiB on the wire",
	} {
		withBars(t, width, 24, func(t *testing.T, d *Display, s *screen) {
			transfer := d.Start(t.Context(), "far: home", exactly(3*gib))
			transfer.Add(1 * gib)
			transfer.AddWire(400 * mib)
			pass(10 * time.Second)
			s.shows(want)
		})
	}
}

func TestTheRemainingTimeRisesOnlyWhenTheTransferSlowsDown(t *testing.T) {
	withBars(t, 100, 24, func(t *testing.T, d *Display, s *screen) {
		transfer := d.Start(t.Context(), "a", exactly(100*mib))
		left := func() time.Duration {
			d.mu.Lock()
			defer d.mu.Unlock()
			return transfer.status().remaining
		}
		last := time.Duration(0)
		for range 60 { // in steps of a second
			for range 5 {
				pass(redrawEvery)
				if now := left(); last > 0 && now > last {
					t.Fatalf("it rose from %v to %v", last, now)
				} else {
					last = now
				}
			}
			transfer.Add(mib)
		}
		if last < 35*time.Second || last > 45*time.Second {
			t.Errorf("%v left, want 40 s", last)
		}
		pass(10 * time.Second)
		if now := left(); now < 2*last {
			t.Errorf("%v left though nothing came for 10 s, after %v", now, last)
		}
		for range 30 {
			transfer.Add(mib / 4)
			pass(time.Second)
		}
		if now := left(); now < 100*time.Second || now > 140*time.Second {
			t.Errorf("%v left at a quarter of the rate, want 130 s", now)
		}
	})
}
