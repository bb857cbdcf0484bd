package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

// newSentFolder makes a folder with two snapshots of a source that changed.
func newSentFolder(t testing.TB) *Dir {
	t.Helper()
	top := btrfstest.New(t, size).Dir
	home := newSubvolume(t, top, "home")
	btrfstest.Populate(t, home, 1)
	d := open(t, newHost(), top, "source")
	for _, name := range []string{"first", "second"} {
		_, err := d.Take(t.Context(), home, info(t, home).UUID, name)
		btrfstest.Check(t, err)
		btrfstest.Change(t, home, 2)
	}
	return d
}

func TestWhatIsSentIsWhatBtrfsProgsSend(t *testing.T) {
	d := newSentFolder(t)
	for _, test := range []struct {
		order host.SendOrder
		args  []string
	}{
		{host.SendOrder{Snapshot: "first"}, []string{"first"}},
		{host.SendOrder{Snapshot: "second", Parent: "first"}, []string{"-p", "first", "second"}},
		{host.SendOrder{Snapshot: "second", Format: sendstream.Format{Protocol: 2}}, []string{"--proto", "2", "second"}},
		{host.SendOrder{Snapshot: "second", Parent: "first", Format: sendstream.Format{Protocol: 2, Compressed: true}},
			[]string{"--proto", "2", "--compressed-data", "-p", "first", "second"}},
	} {
		cmd := exec.Command("btrfs", append([]string{"send", "-q"}, test.args...)...)
		cmd.Dir = d.status.Path
		want, err := cmd.Output()
		btrfstest.Check(t, err)
		var got bytes.Buffer
		summary, err := d.Send(t.Context(), test.order, &got)
		btrfstest.Check(t, err)
		if !bytes.Equal(got.Bytes(), want) || summary.Bytes != int64(len(want)) {
			t.Errorf("%+v: %d bytes, told as %d, instead of %d", test.order, got.Len(), summary.Bytes, len(want))
		}
		total, err := d.Measure(t.Context(), test.order)
		btrfstest.Check(t, err)
		if exact := !test.order.Format.Compressed; total < int64(len(want)) || exact && total != int64(len(want)) {
			t.Errorf("%+v: %d bytes are expected, %d come", test.order, total, len(want))
		}
	}
	for _, name := range []string{"", "../home", "none"} {
		if _, err := d.Send(t.Context(), host.SendOrder{Snapshot: name}, io.Discard); err == nil {
			t.Errorf("%q is sent", name)
		}
	}
}

func TestTheKernelStopsSendingWithItsContext(t *testing.T) {
	d := newSentFolder(t)
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
	d := newSentFolder(t)
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

func TestAFileThatCannotBeReadEndsTheStream(t *testing.T) {
	d := newSentFolder(t)
	file := filepath.Join(filepath.Dir(d.status.Path), "home", "damaged")
	btrfstest.Check(t, os.WriteFile(file, bytes.Repeat([]byte("x"), 1<<20), 0o644))
	_, err := d.Take(t.Context(), filepath.Dir(file), info(t, filepath.Dir(file)).UUID, "third")
	btrfstest.Check(t, err)
	btrfstest.Damage(t, file, 1<<19)
	btrfstest.DropCaches(t, filepath.Join(d.status.Path, "third", "damaged"))
	_, err = d.Send(t.Context(), host.SendOrder{Snapshot: "third", Parent: "second"}, io.Discard)
	checkRefused(t, err, unix.EIO)
	if _, err := d.Measure(t.Context(), host.SendOrder{Snapshot: "third", Parent: "second"}); err != nil {
		t.Errorf("its size cannot be told: %v", err)
	}
}
