package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// diary is what happened, in order.
type diary struct{ entries []string }

func (d *diary) note(format string, args ...any) {
	d.entries = append(d.entries, fmt.Sprintf(format, args...))
}

func (d *diary) want(t testing.TB, want ...string) {
	t.Helper()
	if got, want := strings.Join(d.entries, "; "), strings.Join(want, "; "); got != want {
		t.Errorf("what happened: %s\nwant:          %s", got, want)
	}
}

var errSome = errors.New("something failed")

var (
	source   = btrfs.UUID{1}
	snapshot = btrfs.Subvolume{ID: 257, Name: "20260101-000000", UUID: btrfs.UUID{2}, ParentUUID: source, ReadOnly: true}
)

// content is the stream of every snapshot.
var content = bytes.Repeat([]byte("0123456789"), 10)

// fakeSender sends content in pieces of ten bytes.
type fakeSender struct {
	*diary
	fail []error // of each time of sending, instead of it
}

func (s *fakeSender) Origin() host.Origin { return host.Origin{Subvolume: source} }

func (s *fakeSender) Send(_ context.Context, t Transfer, after sendstream.Prefix, w io.Writer) error {
	s.note("send%s", told(after))
	if len(s.fail) > 0 {
		err := s.fail[0]
		s.fail = s.fail[1:]
		if err != nil {
			return err
		}
	}
	rest := sendstream.NewRemainder(w, after)
	for at := 0; at < len(content); at += 10 {
		t.Wire(1)
		if _, err := rest.Write(content[at : at+10]); err != nil {
			return fmt.Errorf("sending: %w", &sendstream.WriteError{Err: err})
		}
	}
	return rest.Close()
}

// told tells a prefix, if there is one.
func told(p sendstream.Prefix) string {
	if p.Bytes == 0 {
		return ""
	}
	return fmt.Sprintf(" after %d", p.Bytes)
}

func (s *fakeSender) Measure(context.Context, Transfer) (progress.Total, error) {
	return progress.Total{}, errSome
}

// fakeTarget receives into memory.
type fakeTarget struct {
	*diary
	receivers []Receiver // those to come
}

func (d *fakeTarget) String() string { return "/backups" }

func (d *fakeTarget) Accepts(context.Context) (sendstream.Format, error) {
	return sendstream.Format{Protocol: 1}, nil
}

func (d *fakeTarget) Receive(context.Context, Transfer) (Receiver, error) {
	d.note("receive")
	r := d.receivers[0]
	d.receivers = d.receivers[1:]
	return r, nil
}

func (d *fakeTarget) Verify(_ context.Context, _ Transfer, received btrfs.Subvolume) error {
	if !received.ReadOnly {
		return errors.New("it is writable")
	}
	return nil
}

// receiver makes a receiver of a complete copy of s.
func (d *fakeTarget) receiver(s btrfs.Subvolume) *fakeReceiver {
	return &fakeReceiver{diary: d.diary, received: btrfs.Subvolume{UUID: btrfs.UUID{3}, ReceivedUUID: s.UUID, ReadOnly: true}}
}

// fakeReceiver fails a write with each error, after it has taken so many bytes.
type fakeReceiver struct {
	*diary
	data     []byte
	breaks   []writeBreak
	received btrfs.Subvolume
	closeErr error

	closesOnce bool // closeErr is that of the first time only
}

type writeBreak struct {
	at   int // bytes taken
	err  error
	lost int // of those taken
	then func()
}

func (r *fakeReceiver) Write(p []byte) (int, error) {
	if len(r.breaks) > 0 && len(r.data)+len(p) > r.breaks[0].at {
		b := r.breaks[0]
		r.breaks = r.breaks[1:]
		n := b.at - len(r.data)
		r.data = append(r.data, p[:n]...)
		r.data = r.data[:len(r.data)-b.lost]
		if b.then != nil {
			b.then()
		}
		return n, b.err
	}
	r.data = append(r.data, p...)
	return len(p), nil
}

func (r *fakeReceiver) Close(context.Context) (btrfs.Subvolume, error) {
	r.note("close")
	err := r.closeErr
	if r.closesOnce {
		r.closeErr = nil
	}
	return r.received, err
}

func (r *fakeReceiver) Commit(_ context.Context, of host.Origin) error {
	if of.Subvolume != source || of.Sent != int64(len(r.data)) {
		r.note("commit of another source")
	}
	r.note("commit %d", len(r.data))
	return nil
}

func (r *fakeReceiver) Abort(context.Context) error {
	r.note("abort")
	return nil
}

// resumableReceiver is a fakeReceiver that outlives its connection.
type resumableReceiver struct {
	*fakeReceiver
	takenErr error
}

func (r *resumableReceiver) Taken(context.Context) (sendstream.Prefix, error) {
	r.note("taken")
	c := sendstream.NewPrefixCounter(io.Discard)
	_, err := c.Write(r.data)
	return c.Prefix(), errors.Join(err, r.takenErr)
}

var errLost = fmt.Errorf("reading: %w", transport.ErrDisconnected)

// newFakes makes a sender and a target, which write the same diary.
func newFakes() (*fakeSender, *fakeTarget) {
	var d diary
	return &fakeSender{diary: &d}, &fakeTarget{diary: &d}
}
