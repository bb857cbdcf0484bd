package stream

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

const (
	lineRate   = 256 << 10 / 8 // bytes per second
	streamSize = 6 << 20
)

// longSender sends what does not shrink.
type longSender struct{ *fakeSender }

func (longSender) Send(_ context.Context, _ Transfer, _ sendstream.Prefix, w io.Writer) error {
	rng := rand.NewChaCha8([32]byte{})
	_, err := io.CopyN(w, rng, streamSize)
	return err
}

func (longSender) Measure(context.Context, Transfer) (progress.Total, error) {
	return progress.Total{Bytes: streamSize}, nil
}

// farTarget receives at the far end of a slow line, in front of which much is buffered.
type farTarget struct{ *fakeTarget }

type farReceiver struct {
	*resumableReceiver
	sender *wire.Sender
}

func (r farReceiver) Write(p []byte) (int, error) { return r.sender.Write(p) }

func (r farReceiver) Close(context.Context) (btrfs.Subvolume, error) {
	return r.received, r.sender.Close()
}

func (f farTarget) Receive(_ context.Context, t Transfer) (Receiver, error) {
	s, r := wire.NewSender(wire.SenderOptions{Taken: t.Taken}), wire.NewReceiver(wire.ReceiverOptions{})
	near, far := net.Pipe()
	s.Add(near)
	r.Add(slowLine(far))
	go r.WriteTo(io.Discard)
	return farReceiver{&resumableReceiver{fakeReceiver: f.receiver(snapshot)}, s}, nil
}

// slowly is a connection whose far end reads at the rate of the line what has been written long before.
type slowly struct {
	net.Conn
	buffered io.Reader
}

func slowLine(c net.Conn) slowly {
	const buffer = 64 << 10
	r, w := io.Pipe()
	pieces := make(chan []byte, buffer/1024)
	go func() {
		defer close(pieces)
		for {
			p := make([]byte, 1024)
			n, err := c.Read(p)
			pieces <- p[:n]
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for p := range pieces {
			time.Sleep(time.Duration(len(p)) * time.Second / lineRate)
			_, _ = w.Write(p)
		}
		_ = w.Close()
	}()
	return slowly{c, r}
}

func (s slowly) Read(p []byte) (int, error) { return s.buffered.Read(p) }

var shownLine = regexp.MustCompile(`\), ([0-9.]+) KiB/s, (?:(\d+) min)? ?(?:([0-9.]+) s)? left`)

func TestWhatIsShownIsWhatArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, last, shown := time.Now(), time.Hour, 0
		display := progress.NewLines(func(line string) {
			m := shownLine.FindStringSubmatch(line)
			if m == nil {
				return // the remaining time is not known yet
			}
			shown++
			rate, _ := strconv.ParseFloat(m[1], 64)
			minutes, _ := strconv.Atoi(m[2])
			seconds, _ := strconv.ParseFloat(m[3], 64)
			left := time.Duration(minutes)*time.Minute + time.Duration(seconds*float64(time.Second))
			passed := time.Since(began)
			// a packet takes a second, and the rate is that of a few seconds: one more or less makes a difference
			if passed > 15*time.Second && (rate < 0.6*lineRate/1024 || rate > 1.4*lineRate/1024) {
				t.Errorf("after %v: %q", passed, line)
			}
			if left > last+last/2+20*time.Second {
				t.Errorf("after %v the remaining time rose from %v: %q", passed, last, line)
			}
			last = left
		}, time.Second)
		defer display.Close()
		from, to := newFakes()
		course := Course{From: longSender{from}, To: farTarget{to}, Log: slog.New(slog.DiscardHandler), Progress: display}
		if _, err := course.Save(t.Context(), engine.Transfer{Snapshot: snapshot}); err != nil {
			t.Fatal(err)
		}
		if want := streamSize/lineRate - 10; shown < want {
			t.Errorf("%d lines, want at least %d", shown, want)
		}
	})
}
