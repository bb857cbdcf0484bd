package volume

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"

	"golang.org/x/sys/unix"
)

// recordingHost has one directory, which records what it is asked to do.
type recordingHost struct {
	host.Host
	dir recordingDir
}

func (h *recordingHost) String() string { return "ssh://nas" }
func (h *recordingHost) Open(context.Context, string) (*host.Dir, error) {
	return &host.Dir{Folder: &h.dir, Snapshots: &h.dir, Backups: &h.dir}, nil
}

type recordingDir struct {
	host.Folder
	host.Snapshots
	status   host.Status
	send     host.SendOrder
	receive  host.ReceiveOrder
	delete   host.DeleteOptions
	receiver host.Receiver
	err      error
}

func (d *recordingDir) Status() host.Status { return d.status }

func (d *recordingDir) Send(_ context.Context, o host.SendOrder, _ io.Writer) (sendstream.Summary, error) {
	d.send = o
	return sendstream.Summary{}, d.err
}

func (d *recordingDir) Receive(_ context.Context, o host.ReceiveOrder) (host.Receiver, error) {
	d.receive = o
	return d.receiver, d.err
}

func (d *recordingDir) Copies(host.Snapshots) bool { return false }

func (d *recordingDir) Delete(_ context.Context, _ []string, o host.DeleteOptions) ([]string, error) {
	d.delete = o
	return nil, d.err
}

// openOn opens a source and a destination on a host.
func openOn(t testing.TB, h host.Host, o Options) (*Source, *Destination) {
	t.Helper()
	o.Log, o.SkipChecks = silent.Log, true
	s, d := NewSource(h, "/home", "", o), NewDestination(h, "/backups", nil, o)
	check(t, s.Open(t.Context()))
	check(t, d.Open(t.Context()))
	return s, d
}

func TestOrdersReachTheHost(t *testing.T) {
	t.Parallel()
	h := &recordingHost{dir: recordingDir{status: host.Status{Btrfs: true}}}
	s, d := openOn(t, h, Options{Verbose: true, ConvertRW: true, Sync: true, Limit: 1000})
	transfer := engine.Transfer{Snapshot: btrfs.Subvolume{Name: "new"}, Parent: &btrfs.Subvolume{Name: "old"}}
	format, after := sendstream.Format{Protocol: 2, Compressed: true}, sendstream.Prefix{Bytes: 7}
	wired := 0
	wire := func(n int64) { wired += int(n) }

	check(t, s.Send(t.Context(), stream.Transfer{Transfer: transfer, Format: format, Wire: wire}, after, io.Discard))
	got := h.dir.send
	got.Wire(1)
	if got.Snapshot != "new" || got.Parent != "old" || got.Format != format || got.After != after || !got.Verbose || wired != 1 {
		t.Errorf("sent as %+v", got)
	}

	_, err := d.Receive(t.Context(), stream.Transfer{Transfer: transfer, Format: format, Wire: wire})
	check(t, err)
	order := h.dir.receive
	order.Wire(1)
	if order.Name != "new" || order.Key == "" || !order.Verbose || order.Limit == nil || order.Limit.Limit() != 1000 || wired != 2 {
		t.Errorf("received as %+v", order)
	}
	_, err = d.Delete(t.Context(), []string{"old"})
	check(t, err)
	if want := (host.DeleteOptions{ConvertRW: true, Wait: true, Verbose: true}); h.dir.delete != want {
		t.Errorf("deleted as %+v", h.dir.delete)
	}
	if _, unlimited := openOn(t, h, Options{}); unlimited.limit != nil {
		t.Error("there is a limit that nobody asked for")
	}
}

func TestNamesTellTheHost(t *testing.T) {
	t.Parallel()
	h := &recordingHost{dir: recordingDir{status: host.Status{Btrfs: true}}}
	s, d := openOn(t, h, Options{})
	if s.String() != "ssh://nas/home" || d.String() != "ssh://nas/backups" {
		t.Errorf("%s, %s", s, d)
	}
	if got := NewDestination(here, "/not \xff utf-8", nil, silent).String(); got != `"/not \xff utf-8"` {
		t.Errorf("a path that JSON cannot hold: %s", got)
	}
}

func TestKeysAreEqualForEqualStreamsOnly(t *testing.T) {
	t.Parallel()
	s1, s2 := btrfs.Subvolume{UUID: btrfs.UUID{1}}, btrfs.Subvolume{UUID: btrfs.UUID{2}}
	v1, v2 := sendstream.Format{Protocol: 1}, sendstream.Format{Protocol: 2}
	packed := sendstream.Format{Protocol: 2, Compressed: true}
	streams := []stream.Transfer{
		{Transfer: engine.Transfer{Snapshot: s1}, Format: v1},
		{Transfer: engine.Transfer{Snapshot: s2}, Format: v1},
		{Transfer: engine.Transfer{Snapshot: s1, Parent: &s2}, Format: v1},
		{Transfer: engine.Transfer{Snapshot: s2, Parent: &s1}, Format: v1},
		{Transfer: engine.Transfer{Snapshot: s1}, Format: v2},
		{Transfer: engine.Transfer{Snapshot: s1}, Format: packed},
	}
	for i, a := range streams {
		for j, b := range streams {
			b.Wire = func(int64) {} // does not matter
			if same := keyOf(a) == keyOf(b); same != (i == j) {
				t.Errorf("streams %d and %d have the keys %q and %q", i, j, keyOf(a), keyOf(b))
			}
		}
	}
}

type plainReceiver struct{ host.Receiver }

type lastingReceiver struct{ host.Receiver }

func (lastingReceiver) Taken(context.Context) (sendstream.Prefix, error) {
	return sendstream.Prefix{Bytes: 5}, nil
}

func TestOnlyAReceiverThatCanResumeSaysSo(t *testing.T) {
	t.Parallel()
	h := &recordingHost{dir: recordingDir{status: host.Status{Btrfs: true}}}
	_, d := openOn(t, h, Options{})
	for _, r := range []host.Receiver{plainReceiver{}, lastingReceiver{}} {
		h.dir.receiver = r
		got, err := d.Receive(t.Context(), transferOf("new"))
		check(t, err)
		resumer, can := got.(stream.Resumer)
		if _, want := r.(host.Resumer); can != want {
			t.Errorf("%T: can resume %t", r, can)
		}
		if can {
			if taken, err := resumer.Taken(t.Context()); taken.Bytes != 5 || err != nil {
				t.Errorf("taken: %+v, %v", taken, err)
			}
		}
	}
}

func TestAReadOnlySubvolumeThatAnOrdinaryUserCannotDeleteIsExplained(t *testing.T) {
	t.Parallel()
	const toAll = "the filesystem is mounted read-only: mount it for writing"
	for privileged, forward := range map[bool]string{false: needThere, true: toAll} {
		h := &recordingHost{dir: recordingDir{status: host.Status{Btrfs: true, Privileged: privileged}, err: unix.EROFS}}
		_, d := openOn(t, h, Options{})
		if _, err := d.Delete(t.Context(), []string{"a"}); !errors.Is(err, unix.EROFS) || hint.Of(err) != forward {
			t.Errorf("privileged %t: error: %v, hint: %q", privileged, err, hint.Of(err))
		}
	}
}
