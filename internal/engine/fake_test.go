package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/lock"
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

// fakeFolder is a folder in memory.
type fakeFolder struct {
	*diary
	name string
	here subvolumes
}

func (f *fakeFolder) String() string               { return f.name }
func (f *fakeFolder) Open(context.Context) error   { return nil }
func (f *fakeFolder) Create(context.Context) error { return nil }
func (f *fakeFolder) At() Position {
	return Position{DirID: btrfs.DirID{Filesystem: btrfs.UUID([]byte(fmt.Sprintf("%-16s", f.name))), Inode: 256}}
}

func (f *fakeFolder) Lock(context.Context, func(*lock.HeldError)) (func() error, error) {
	return func() error { return nil }, nil
}

func (f *fakeFolder) Delete(_ context.Context, names []string) ([]string, error) {
	f.note("delete %s", strings.Join(names, " "))
	return names, nil
}

var errNoTake = errors.New("no snapshot can be taken")

// fakeSource is a History in memory.
type fakeSource struct {
	fakeFolder
	ledger    string
	badLedger bool
	writeErr  func() error // of writing the ledger; may be nil
}

func (s *fakeSource) Omitted(context.Context) ([]string, error) { return nil, nil }

func (s *fakeSource) List(_ context.Context, ours func(string) bool) (Snapshots, error) {
	found := Snapshots{Listing: inFolder(Naming{}, s.here).Listing, Of: home, LedgerErr: errSome}
	if !s.badLedger {
		found.Ledger, found.LedgerErr = lock.ParseLedger([]byte(s.ledger), ours)
	}
	return found, nil
}

func (s *fakeSource) Take(context.Context, string) (btrfs.Subvolume, error) {
	return btrfs.Subvolume{}, errNoTake
}

func (s *fakeSource) WriteLedger(_ context.Context, l *lock.Ledger) error {
	if s.writeErr != nil {
		if err := s.writeErr(); err != nil {
			return err
		}
	}
	s.ledger = string(l.Marshal())
	return nil
}

func (s *fakeSource) Link(context.Context, string, string) error { return nil }

// fakeDestination saves into memory.
type fakeDestination struct {
	fakeFolder
	fail []error // of each time of saving, instead of it
}

func (d *fakeDestination) List(context.Context) (Contents, error) {
	return Contents{Listing: inFolder(Naming{}, d.here).Listing, Identity: d.name}, nil
}

func (d *fakeDestination) Save(_ context.Context, t Transfer) (Result, error) {
	d.note("%s", sending(t))
	if len(d.fail) > 0 {
		err := d.fail[0]
		if d.fail = d.fail[1:]; err != nil {
			return Result{}, err
		}
	}
	return Result{Bytes: 100, Backup: backup(t.Snapshot)}, nil
}

// sending tells what a transfer is to do.
func sending(t Transfer) string {
	return strings.TrimSuffix("send "+t.Snapshot.Name+" from "+t.ParentName(), " from ")
}

// blindDestination can be saved to only.
type blindDestination struct{ to *fakeDestination }

func (d blindDestination) String() string { return d.to.name }

func (d blindDestination) Save(ctx context.Context, t Transfer) (Result, error) {
	r, err := d.to.Save(ctx, t)
	r.Backup = btrfs.Subvolume{} // nobody can look
	return r, err
}

// newFakes makes a source with snapshots, and an empty destination; both write the same diary.
func newFakes(snapshots ...btrfs.Subvolume) (*fakeSource, *fakeDestination) {
	var d diary
	return &fakeSource{fakeFolder: fakeFolder{diary: &d, name: "/home", here: snapshots}},
		&fakeDestination{fakeFolder: fakeFolder{diary: &d, name: "/backups"}}
}

func jobOf(s Source, d Destination, changes ...func(*Job)) Job {
	job := Job{
		Source: s, Destinations: []Destination{d}, NoSnapshot: true,
		Settings: Settings{Log: slog.New(slog.DiscardHandler), Now: time.Now},
	}
	for _, c := range changes {
		c(&job)
	}
	return job
}

// save runs a job and gives what was done at its only destination.
func save(t testing.TB, job Job) DestinationReport {
	t.Helper()
	report, err := Run(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return report.Destinations[0]
}
