package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/progress"
	"btrfs-backup/lock"
	"btrfs-backup/transport"
)

// diary is what happened, in order.
type diary struct{ entries []string }

func (d *diary) note(format string, args ...any) {
	entry := fmt.Sprintf(format, args...)
	for n := range uint64(32) {
		entry = strings.ReplaceAll(entry, day(n), fmt.Sprint(n))
	}
	d.entries = append(d.entries, entry)
}

func (d *diary) want(t testing.TB, want ...string) {
	t.Helper()
	if got, want := strings.Join(d.entries, "; "), strings.Join(want, "; "); got != want {
		t.Errorf("what happened: %s\nwant:          %s", got, want)
	}
}

// fakeFolder is a Folder in memory.
type fakeFolder struct {
	*diary
	name      string
	here      subvolumes
	ledger    string
	badLedger bool
}

func (f *fakeFolder) String() string                   { return f.name }
func (f *fakeFolder) Open(context.Context, bool) error { return nil }
func (f *fakeFolder) Place() btrfs.Place {
	return btrfs.Place{Filesystem: btrfs.UUID([]byte(fmt.Sprintf("%-16s", f.name)))}
}

func (f *fakeFolder) Lock(context.Context, func(*lock.HeldError)) (func() error, error) {
	return func() error { return nil }, nil
}

func (f *fakeFolder) List(context.Context) (btrfs.Listing, error) {
	return inFolder(Naming{}, f.here).Listing, nil
}

func (f *fakeFolder) Delete(_ context.Context, names []string) ([]string, error) {
	f.note("delete %s", strings.Join(names, " "))
	return names, nil
}

func (f *fakeFolder) Ledger(_ context.Context, ours func(string) bool) (*lock.Ledger, error) {
	if f.badLedger {
		return nil, errSome
	}
	return lock.ParseLedger([]byte(f.ledger), ours)
}

// content is the stream of every snapshot.
var content = bytes.Repeat([]byte("0123456789"), 10)

// fakeSource sends content in pieces of ten bytes.
type fakeSource struct {
	fakeFolder
	fail []error // of each time of sending, instead of it
}

func (s *fakeSource) Subvolume() btrfs.Subvolume { return home }

func (s *fakeSource) Nested(context.Context) ([]string, error) { return nil, nil }

func (s *fakeSource) Take(context.Context, string) (btrfs.Subvolume, error) {
	return btrfs.Subvolume{}, errors.New("no snapshot was asked for")
}

func (s *fakeSource) Send(_ context.Context, t Transfer, o SendOptions, w io.Writer) error {
	s.note("%s", strings.TrimSuffix("send "+t.Snapshot.Name+" from "+parentName(t), " from ")+after(o.After))
	if len(s.fail) > 0 {
		err := s.fail[0]
		s.fail = s.fail[1:]
		if err != nil {
			return err
		}
	}
	rest := sendstream.NewRemainder(w, o.After)
	for at := 0; at < len(content); at += 10 {
		if o.Wire != nil {
			o.Wire(1)
		}
		if _, err := rest.Write(content[at : at+10]); err != nil {
			return fmt.Errorf("sending: %w", &sendstream.WriteError{Err: err})
		}
	}
	return rest.Close()
}

// after tells a prefix, if there is one.
func after(p sendstream.Prefix) string {
	if p.Bytes == 0 {
		return ""
	}
	return fmt.Sprintf(" after %d", p.Bytes)
}

func (s *fakeSource) Measure(context.Context, Transfer, sendstream.Format) (progress.Total, error) {
	return progress.Total{}, errSome
}

func (s *fakeSource) WriteLedger(_ context.Context, l *lock.Ledger) error {
	s.ledger = string(l.Marshal())
	return nil
}

func (s *fakeSource) Link(context.Context, string, string) error { return nil }
func (s *fakeSource) Sync(context.Context) error                 { return nil }

// fakeDestination receives into memory.
type fakeDestination struct {
	fakeFolder
	receivers []Receiver // those to come; then complete ones
}

func (d *fakeDestination) Accepts(context.Context) (sendstream.Format, error) {
	return sendstream.Format{Protocol: 1}, nil
}

func (d *fakeDestination) Origins(context.Context) (map[btrfs.UUID]btrfs.UUID, error) {
	return nil, nil
}

func (d *fakeDestination) Receive(_ context.Context, s Shipment) (Receiver, error) {
	d.note("receive %s", s.Snapshot.Name)
	if len(d.receivers) == 0 {
		return d.receiver(s.Snapshot), nil
	}
	r := d.receivers[0]
	d.receivers = d.receivers[1:]
	return r, nil
}

// receiver makes a receiver of a complete copy of s.
func (d *fakeDestination) receiver(s btrfs.Subvolume) *fakeReceiver {
	return &fakeReceiver{diary: d.diary, received: backup(s, hidden)}
}

// writeOnlyDestination fails the test if anybody looks at it.
type writeOnlyDestination struct {
	*fakeDestination
	t testing.TB
}

func (d writeOnlyDestination) WriteOnly() {}

func (d writeOnlyDestination) List(context.Context) (btrfs.Listing, error) {
	d.t.Error("a destination that cannot be listed was listed")
	return btrfs.Listing{}, nil
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

func (r *fakeReceiver) Commit(_ context.Context, origin btrfs.UUID) error {
	if origin != home.UUID {
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

// newFakes makes a source with snapshots, and an empty destination; both write the same diary.
func newFakes(snapshots ...btrfs.Subvolume) (*fakeSource, *fakeDestination) {
	var d diary
	return &fakeSource{fakeFolder: fakeFolder{diary: &d, name: "/home", here: snapshots}},
		&fakeDestination{fakeFolder: fakeFolder{diary: &d, name: "/backups"}}
}

func jobOf(s Source, d Destination, changes ...func(*Job)) Job {
	job := Job{
		Source: s, Destinations: []Destination{d}, NoSnapshot: true,
		Settings: Settings{Log: slog.New(slog.DiscardHandler), Progress: progress.Silent(), Now: time.Now},
	}
	for _, c := range changes {
		c(&job)
	}
	return job
}

// save runs a job and gives what was done at its only destination.
func save(t testing.TB, job Job) Saved {
	t.Helper()
	report, err := Run(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return report.Destinations[0]
}
