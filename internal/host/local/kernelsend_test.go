package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

func TestTheKernelSendsWhatTheProgramSends(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	home := newSubvolume(t, top, "home")
	btrfstest.Populate(t, home, 1)
	d := open(t, newHost(), top, "source")
	for _, name := range []string{"first", "second"} {
		_, err := d.Take(t.Context(), home, info(t, home).UUID, name)
		btrfstest.Check(t, err)
		btrfstest.Change(t, home, 2)
	}
	for _, o := range []host.SendOrder{
		{Snapshot: "first"}, {Snapshot: "second", Parent: "first"}, {Snapshot: "second", Format: sendstream.Format{Protocol: 2}},
		{Snapshot: "second", Parent: "first", Format: sendstream.Format{Protocol: 2, Compressed: true}},
	} {
		var streams [2]bytes.Buffer
		var totals [2]int64
		for i, c := range []Confinement{nil, anywhere{}} {
			d.host.confine = c
			_, err := d.Send(t.Context(), o, &streams[i])
			btrfstest.Check(t, err)
			totals[i], err = d.Measure(t.Context(), o)
			btrfstest.Check(t, err)
		}
		if !bytes.Equal(streams[0].Bytes(), streams[1].Bytes()) || totals[0] != totals[1] {
			t.Errorf("%+v: %d bytes, %d expected; the program: %d, %d", o, streams[1].Len(), totals[1], streams[0].Len(), totals[0])
		}
	}
	d.host.confine = anywhere{}
	for _, name := range []string{"", "../home", "none"} {
		if _, err := d.Send(t.Context(), host.SendOrder{Snapshot: name}, io.Discard); err == nil {
			t.Errorf("%q is sent", name)
		}
	}
}

func TestTheKernelStopsSendingWithItsContext(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	home := newSubvolume(t, top, "home")
	btrfstest.Populate(t, home, 1)
	d := open(t, newHost(), top, "source")
	_, err := d.Take(t.Context(), home, info(t, home).UUID, "first")
	btrfstest.Check(t, err)
	d.host.confine = anywhere{}
	_, err = d.host.Format(t.Context())
	btrfstest.Check(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := d.Send(ctx, host.SendOrder{Snapshot: "first"}, io.Discard); !errors.Is(err, why) {
		t.Errorf("error: %v", err)
	}
	full := errors.New("full")
	if _, err := d.Send(t.Context(), host.SendOrder{Snapshot: "first"}, failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("error: %v", err)
	}
}

type failingWriter struct{ error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.error }

func TestSignalsDoNotMakeTheKernelSendAnew(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	home := newSubvolume(t, top, "home")
	btrfstest.Populate(t, home, 1)
	d := open(t, newHost(), top, "source")
	_, err := d.Take(t.Context(), home, info(t, home).UUID, "first")
	btrfstest.Check(t, err)
	d.host.confine = anywhere{}
	for range 20 {
		over, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-over:
					return
				default:
					_ = unix.Kill(unix.Getpid(), unix.SIGURG)
				}
			}
		}()
		summary, err := d.Send(t.Context(), host.SendOrder{Snapshot: "first"}, io.Discard)
		close(over)
		<-ended
		if err != nil || summary.Restarts > 0 {
			t.Fatalf("%d restarts, %v", summary.Restarts, err)
		}
	}
}
