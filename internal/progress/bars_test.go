package progress

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	mib = int64(1 << 20)
	gib = int64(1 << 30)
)

func exactly(n int64) func(context.Context) (Total, error) {
	return func(context.Context) (Total, error) { return Total{Bytes: n}, nil }
}

func atMost(n int64) func(context.Context) (Total, error) {
	return func(context.Context) (Total, error) { return Total{Bytes: n, AtMost: true}, nil }
}

func unmeasurable(context.Context) (Total, error) {
	return Total{}, errors.New("no permission")
}

// withBars runs test with a Display on a screen and on a fake clock.
func withBars(t *testing.T, width, height int, test func(*testing.T, *Display, *screen)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, width, height)
		d := newDisplay(&bars{out: s, size: s.size}, redrawEvery)
		defer d.Close()
		test(t, d, s)
	})
}

// pass lets time go by, and the redraw at its end be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestBarsStandBelowEachOther(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		usb := d.Start(t.Context(), "/mnt/usb: home20261121-044803", exactly(3*gib))
		nas := d.Start(t.Context(), "ssh://root@nas:22/backup/h2: home20261121-044803", exactly(4*gib))
		usb.Add(1 * gib)
		nas.Add(100 * mib)
		pass(10 * time.Second)
		s.shows(
			"usb             #######.............   33%  1.0/3.0 GiB  102 MiB/s  0:20 left",
			"nas:/backup/h2  #...................    2%  0.1/4.0 GiB   10 MiB/s  6:40 left",
		)
	})
}

func TestBarsWithoutTotalShowBytesAndRateOnly(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		failed := d.Start(t.Context(), "a", unmeasurable)
		none := d.Start(t.Context(), "b", nil)
		overtaken := d.Start(t.Context(), "c", exactly(mib))
		for _, transfer := range []*Transfer{failed, none, overtaken} {
			transfer.Add(70 * mib)
		}
		pass(10 * time.Second)
		const rest = "  ....................             70 MiB  7.0 MiB/s"
		s.shows("a"+rest, "b"+rest, "c"+rest)
	})
}

func TestBarsShowTheTotalOnceItIsKnown(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		transfer := d.Start(t.Context(), "a", func(context.Context) (Total, error) {
			time.Sleep(5 * time.Second)
			return Total{Bytes: 10 * mib}, nil
		})
		transfer.Add(5 * mib)
		pass(4 * time.Second)
		s.shows("a  ....................            5.0 MiB  1.2 MiB/s")
		pass(6 * time.Second)
		s.shows("a  ##########..........   50%   5.0/10 MiB  512 KiB/s  0:10 left")
	})
}

func TestUpperBoundFitsInto80ColumnsAndEndsAsDone(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		transfer := d.Start(t.Context(), "/mnt/usb: home20261121-044803", atMost(1000*mib))
		transfer.Add(700 * mib)
		pass(10 * time.Second)
		s.shows("usb  ##############......   70%  0.7/1.0 GiB   70 MiB/s  0:04 left")
		transfer.Done(nil)
		s.shows("/mnt/usb: home20261121-044803: 700 MiB in 10 s, 70 MiB/s")
	})
}

func TestFailedTransferLeavesALineAndTheOthersGoOn(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		dead := d.Start(t.Context(), "dead", exactly(100*mib))
		live := d.Start(t.Context(), "live", exactly(100*mib))
		dead.Add(5 * mib)
		live.Add(50 * mib)
		pass(10 * time.Second)
		dead.Done(errors.New("broken"))
		s.shows(
			"dead: failed after 5.0 MiB, 10 s",
			"live  ##########..........   50%   50/100 MiB  5.0 MiB/s  0:10 left",
		)
	})
}

func TestAStoppedTransferLeavesNoLine(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		ctx, stop := context.WithCancel(t.Context())
		transfer := d.Start(ctx, "a", nil)
		pass(time.Second)
		stop()
		transfer.Done(errors.New("ended by a signal"))
		s.shows()
	})
}

func TestLogLinesStandAboveTheBars(t *testing.T) {
	withBars(t, 40, 24, func(t *testing.T, d *Display, s *screen) {
		log := d.Writer(s)
		fmt.Fprintln(log, "before")
		d.Start(t.Context(), "a", nil)
		fmt.Fprintln(log, "a line of the log that is wider than the terminal is")
		pass(time.Second)
		fmt.Fprint(log, "two\nlines\n")
		s.shows(
			"before",
			"a line of the log that is wider than the",
			" terminal is",
			"two",
			"lines",
			"a                0 B",
		)
	})
}

func TestAPlaceStaysReadableInItsRow(t *testing.T) {
	for title, want := range map[string]string{
		"/mnt/usb/home: 20261121-044803":                 "usb/home",
		"/media/usb/home: 20261121-044803":               "usb/home",
		"/run/media/me/usb/home: 20261121-044803":        "usb/home",
		"/srv/backup: 20261121-044803":                   "/srv/backup",
		"ssh://root@nas:2222/backup/h2: 20261121-044803": "nas:/backup/h2",
		"ssh://me@[fe80::1]:22/b: 20261121-044803":       "[fe80::1]:/b",
		"rsync://me@nas/photos: 20261121-044803":         "nas::photos",
		"shell://cat >/dev/null: 20261121-044803":        "shell://cat >/dev/null",
		"reading /mnt/usb/etc: 20261121-044803":          "reading usb/etc",
		"reading ssh://nas/etc":                          "reading nas:/etc",
	} {
		if got := label(title); got != want {
			t.Errorf("%s is called %q, want %q", title, got, want)
		}
	}
}

func TestNoRowIsWiderThanTheTerminal(t *testing.T) {
	for width := 1; width <= 130; width++ {
		withBars(t, width, 24, func(t *testing.T, d *Display, s *screen) {
			d.Start(t.Context(), "ssh://nas.example.org/srv/backup: home20261121-044803", atMost(gib)).Add(mib)
			d.Start(t.Context(), "/mnt/バックアップ: ホーム20261121-044803", nil)
			pass(time.Second)
			for i, line := range s.lines {
				if len(line) > max(1, width-1) {
					t.Errorf("width %d: row %d has %d cells: %q", width, i, len(line), s)
				}
			}
		})
	}
}

func TestTitleCannotControlTheTerminal(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		transfer := d.Start(t.Context(), "a\x1b[2J\r\n\t\u202e\u200b\xff", nil)
		pass(time.Second)
		transfer.Done(nil)
		s.shows(`a\x1b[2J\r; \t\u202e\u200b\xff: 0 B in 1.0 s, 0 B/s`)
	})
}

func TestMoreTransfersThanLinesAreCounted(t *testing.T) {
	const rest = "  ....................                0 B      0 B/s"
	tests := []struct {
		height int
		want   []string
	}{
		{1, nil},
		{2, []string{"and 3 more"}},
		{3, []string{"t0" + rest, "and 2 more"}},
		{4, []string{"t0" + rest, "t1" + rest, "t2" + rest}},
	}
	for _, test := range tests {
		withBars(t, 80, test.height, func(t *testing.T, d *Display, s *screen) {
			for i := range 3 {
				d.Start(t.Context(), fmt.Sprint("t", i), nil)
			}
			pass(time.Second)
			s.shows(test.want...)
		})
	}
}

func TestBarsStayInPlaceWhenTheTerminalBecomesNarrower(t *testing.T) {
	withBars(t, 100, 24, func(t *testing.T, d *Display, s *screen) {
		fmt.Fprintln(d.Writer(s), "log")
		d.Start(t.Context(), "a", nil)
		d.Start(t.Context(), "b", nil)
		pass(time.Second)
		s.narrow(40)
		pass(time.Second)
		s.shows(
			"log",
			"a                0 B",
			"b                0 B",
		)
	})
}

func TestNothingIsWrittenAfterClose(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		log := d.Writer(s)
		transfer := d.Start(t.Context(), "a", exactly(gib))
		pass(time.Second)
		d.Close()
		s.shows()
		writes := s.writes
		transfer.Add(mib)
		transfer.Done(nil)
		d.Start(t.Context(), "b", unmeasurable).Done(nil)
		d.Close()
		pass(time.Minute)
		if s.writes != writes {
			t.Errorf("%d writes after Close", s.writes-writes)
		}
		fmt.Fprintln(log, "summary")
		s.shows("summary")
	})
}

func TestIdleBarsWriteNothing(t *testing.T) {
	withBars(t, 80, 24, func(t *testing.T, d *Display, s *screen) {
		pass(time.Minute)
		if s.writes != 0 {
			t.Errorf("%d writes without a transfer", s.writes)
		}
	})
}

func TestBarsFallBackTo80Columns(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := NewBars(f)
	d.Start(t.Context(), strings.Repeat("x", 100), nil)
	d.Close()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	// The first write of a row is followed by the one that erases it.
	row, _, _ := strings.Cut(strings.TrimPrefix(string(got), wrapOff+"\r"), eraseRight)
	if want := "xxxxxxx...xxxxxx  ....................                0 B      0 B/s"; row != want {
		t.Errorf("row %q, want %q", row, want)
	}
}
