package arrivals

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// selfPruning is a folder that prunes itself.
type selfPruning struct {
	host.Folder
	backups []btrfs.Subvolume
	origins host.Origins
	deleted []string
}

func (f *selfPruning) List(context.Context) (host.Content, error) {
	record, err := json.Marshal(f.origins)
	return host.Content{Listing: btrfs.Listing{InDirectory: slices.Clone(f.backups)}, Origins: host.File{Content: record}}, err
}

func (f *selfPruning) Delete(_ context.Context, names []string, _ host.DeleteOptions) ([]string, error) {
	f.deleted = append(f.deleted, names...)
	return names, nil
}

func day(n uint64) string { return fmt.Sprintf("202601%02d-000000", n) }

// dawn is when the backups begin to arrive, one a day.
var dawn = time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)

// received is the backup of the nth day.
func received(n uint64, changes ...func(*btrfs.Subvolume)) btrfs.Subvolume {
	s := btrfs.Subvolume{ID: 256 + n, Name: day(n), UUID: btrfs.UUID{1, byte(n)}, ReceivedUUID: btrfs.UUID{2, byte(n)}, ReadOnly: true,
		CreatedIn: 10 + n, ReceivedIn: 10 + n, ChangedIn: 10 + n, Created: dawn.Add(time.Duration(n) * 24 * time.Hour)}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func named(name string) func(*btrfs.Subvolume) { return func(s *btrfs.Subvolume) { s.Name = name } }

func TestAReceiverPrunesTheSeriesAndSourceOfWhatItReceivedOnly(t *testing.T) {
	home, other := btrfs.UUID{3}, btrfs.UUID{4}
	hidden := func(s *btrfs.Subvolume) { s.Name = btrfs.Incoming(s.Name) }
	writable := func(s *btrfs.Subvolume) { s.ReadOnly = false }
	neverReceived := func(s *btrfs.Subvolume) { s.ReceivedUUID = btrfs.UUID{} }
	tests := []struct {
		name    string
		backups []btrfs.Subvolume
		origins map[uint64]btrfs.UUID // by day
		keep    int
		want    []string
	}{
		{"the oldest go", []btrfs.Subvolume{received(1), received(2), received(3), received(9)}, map[uint64]btrfs.UUID{1: home, 2: home, 3: home, 9: home}, 2,
			[]string{day(1), day(2)}},
		{"no more than there are", []btrfs.Subvolume{received(8), received(9)}, map[uint64]btrfs.UUID{8: home, 9: home}, 2, nil},
		{"not those of another source", []btrfs.Subvolume{received(1), received(2), received(9)}, map[uint64]btrfs.UUID{1: other, 2: home, 9: home}, 1,
			[]string{day(2)}},
		{"not those of nobody on record", []btrfs.Subvolume{received(1), received(2), received(9)}, map[uint64]btrfs.UUID{2: home, 9: home}, 1, []string{day(2)}},
		{"nothing when the new one is not on record", []btrfs.Subvolume{received(1), received(2), received(9)}, map[uint64]btrfs.UUID{1: home, 2: home}, 1, nil},
		{"nothing when none is", []btrfs.Subvolume{received(1), received(2), received(9)}, nil, 1, nil},
		{"not what was altered since", []btrfs.Subvolume{received(1, func(s *btrfs.Subvolume) { s.AlteredIn = 15 }), received(2), received(9)},
			map[uint64]btrfs.UUID{1: home, 2: home, 9: home}, 1, []string{day(2)}},
		{"not what is unfinished, writable, or not received",
			[]btrfs.Subvolume{received(1, hidden), received(2, writable), received(3, neverReceived), received(4), received(9)},
			map[uint64]btrfs.UUID{1: home, 2: home, 3: home, 4: home, 9: home}, 1, []string{day(4)}},
		{"not those of another series", []btrfs.Subvolume{received(1, named("etc"+day(1))), received(2), received(9)},
			map[uint64]btrfs.UUID{1: home, 2: home, 9: home}, 1, []string{day(2)}},
		{"by the order of receiving, whatever the dates", []btrfs.Subvolume{received(1, named(day(25))), received(2, named("20300101-000000")), received(3, named(day(1))), received(9)},
			map[uint64]btrfs.UUID{1: home, 2: home, 3: home, 9: home}, 2, []string{day(25), "20300101-000000"}},
		{"not what is in use", []btrfs.Subvolume{received(1, func(s *btrfs.Subvolume) { s.Default = true }), received(2, func(s *btrfs.Subvolume) { s.Mounted = true }), received(3), received(9)},
			map[uint64]btrfs.UUID{1: home, 2: home, 3: home, 9: home}, 1, []string{day(3)}},
		{"a policy that keeps all", []btrfs.Subvolume{received(1), received(9)}, map[uint64]btrfs.UUID{1: home, 9: home}, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &selfPruning{backups: test.backups, origins: make(host.Origins)}
			for n, origin := range test.origins {
				f.origins[received(n).ReceivedUUID] = origin
			}
			err := newPruner(test.keep).Received(t.Context(), f, day(9))
			if err != nil || !slices.Equal(f.deleted, test.want) {
				t.Errorf("deleted %v, %v, want %v", f.deleted, err, test.want)
			}
		})
	}
}

func newPruner(keep int) *Pruner {
	return &Pruner{Keep: retention.Policy{Last: keep}, Now: clock(30), Log: slog.New(slog.DiscardHandler)}
}

// clock shows the nth day.
func clock(n int) func() time.Time {
	return func() time.Time { return dawn.AddDate(0, 0, n) }
}

func TestAReceiverNeverPrunesWhatTheSameClientBrought(t *testing.T) {
	f := &selfPruning{origins: make(host.Origins)}
	home := btrfs.UUID{3}
	for n := range uint64(9) {
		f.origins[received(n+1).ReceivedUUID] = home
	}
	f.backups = []btrfs.Subvolume{received(1), received(2)}
	p := newPruner(2)
	for n := uint64(3); n <= 6; n++ {
		f.backups = append(f.backups, received(n))
		if err := p.Received(t.Context(), f, day(n)); err != nil {
			t.Fatal(err)
		}
		for _, name := range f.deleted {
			f.backups = slices.DeleteFunc(f.backups, func(b btrfs.Subvolume) bool { return b.Name == name })
		}
	}
	if want := []string{day(1), day(2)}; !slices.Equal(f.deleted, want) {
		t.Errorf("deleted %v, want %v", f.deleted, want)
	}
	f.backups, f.deleted = append(f.backups, received(7)), nil
	if err := newPruner(2).Received(t.Context(), f, day(7)); err != nil || !slices.Equal(f.deleted, []string{day(3), day(4), day(5)}) {
		t.Errorf("the next client: deleted %v, %v", f.deleted, err)
	}
}

// A receiver is a folder to which a client brings what it likes while days pass.
type receiver struct {
	selfPruning
	policy string
	minAge time.Duration
	now    time.Time
}

func newReceiver(policy string, minAge time.Duration) *receiver {
	return &receiver{selfPruning: selfPruning{origins: make(host.Origins)}, policy: policy, minAge: minAge, now: dawn}
}

// bring receives a backup under a name, in a session of its own, and gives those deleted.
func (r *receiver) bring(t testing.TB, name string) []btrfs.Subvolume {
	t.Helper()
	keep, err := retention.Parse(r.policy)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(1)
	if len(r.backups) > 0 {
		n = r.backups[len(r.backups)-1].ID + 1
	}
	b := received(n, named(name))
	b.UUID, b.ReceivedUUID = btrfs.UUID{1, byte(n), byte(n >> 8)}, btrfs.UUID{2, byte(n), byte(n >> 8)}
	b.ID, b.Created, b.ReceivedAt = n, r.now, r.now
	r.backups, r.origins[b.ReceivedUUID] = append(r.backups, b), btrfs.UUID{3}
	p := &Pruner{Keep: keep, MinAge: r.minAge, Now: func() time.Time { return r.now }, Log: slog.New(slog.DiscardHandler)}
	r.deleted = nil
	if err := p.Received(t.Context(), r, name); err != nil {
		t.Fatal(err)
	}
	var gone []btrfs.Subvolume
	r.backups = slices.DeleteFunc(r.backups, func(b btrfs.Subvolume) bool {
		deleted := slices.Contains(r.deleted, b.Name)
		if deleted {
			gone = append(gone, b)
		}
		return deleted
	})
	return gone
}

func (r *receiver) names() (names []string) {
	for _, b := range r.backups {
		names = append(names, b.Name)
	}
	return names
}

// Whatever names, dates and numbers a client brings, nothing younger than the least age goes, and the newest stays.
func TestNoClientGetsAnythingYoungDeleted(t *testing.T) {
	const week = 7 * 24 * time.Hour
	random := rand.New(rand.NewPCG(3, 4))
	for _, policy := range []string{"last=1", "1h", "2d 1w", "compat=btrbk 3d", "*y", "within=1h"} {
		r := newReceiver(policy, week)
		pruned := 0
		for n := range 200 {
			r.now = r.now.Add(time.Duration(random.ExpFloat64() * float64(3*time.Hour)))
			name := dawn.AddDate(0, 0, random.IntN(4000)-2000).Add(time.Duration(n) * time.Second).Format("20060102-150405")
			for _, b := range r.bring(t, name) {
				pruned++
				if age := r.now.Sub(b.Created); age < week {
					t.Fatalf("%s: %s is deleted %s after it arrived", policy, b.Name, age)
				}
			}
			if names := r.names(); names[len(names)-1] != name {
				t.Fatalf("%s: what was just received is deleted", policy)
			}
		}
		if pruned == 0 {
			t.Errorf("%s: nothing is ever deleted", policy)
		}
	}
}

func TestAFloodOfOneNightPushesOutNothingThatTheCalendarKeeps(t *testing.T) {
	r := newReceiver("14d 8w", 7*24*time.Hour)
	for range 40 {
		r.now = r.now.AddDate(0, 0, 1)
		r.bring(t, r.now.Format("20060102-150405"))
	}
	before := r.names()
	for n := range 200 {
		r.now = r.now.Add(time.Second)
		r.bring(t, dawn.AddDate(1, 0, n).Format("20060102-150405"))
	}
	for _, name := range before {
		if !slices.Contains(r.names(), name) {
			t.Errorf("%s is gone", name)
		}
	}
	r.now = r.now.AddDate(0, 0, 8) // a week later the flood is of one day, and goes
	r.bring(t, r.now.Format("20060102-150405"))
	if got := len(r.names()); got > len(before)+3 {
		t.Errorf("%d are left of %d", got, len(before))
	}
}

func TestAClockThatWasWrongMakesNothingOlderThanWhatCameBefore(t *testing.T) {
	r := newReceiver("last=2", 24*time.Hour)
	for range 3 {
		r.now = r.now.AddDate(0, 0, 1)
		r.bring(t, r.now.Format("20060102-150405"))
	}
	right := r.now
	r.now = time.Unix(0, 0) // no battery
	if gone := r.bring(t, "20260201-000000"); len(gone) > 0 {
		t.Errorf("with the clock at zero, %v are deleted", gone)
	}
	r.now = right.Add(time.Hour)
	if gone := r.bring(t, "20260202-000000"); len(gone) != 1 || gone[0].Created != dawn.AddDate(0, 0, 2) {
		t.Errorf("deleted: %v", gone)
	}
	if !slices.Contains(r.names(), "20260201-000000") {
		t.Error("what came while the clock was wrong counts as older than all")
	}
	r.bring(t, "20260202-010000")
	if !slices.Contains(r.names(), "20260201-000000") {
		t.Error("what came while the clock was wrong counts as old")
	}
	r.now = right.AddDate(10, 0, 0) // for a while
	r.bring(t, "20260203-000000")
	r.now = right.AddDate(0, 0, 2)
	r.bring(t, "20260204-000000")
	r.now = right.AddDate(0, 0, 4)
	r.bring(t, "20260205-000000")
	if got := fmt.Sprint(r.names()); got != "[20260203-000000 20260204-000000 20260205-000000]" {
		t.Errorf("when the clock has been in the future for a while, %s are left", got)
	}
}

// treeFolder is a folder of copies of directories.
type treeFolder struct {
	host.TreeBackups
	records []tree.Record
	deleted []string
}

func (f *treeFolder) ListTrees(context.Context) (tree.Listing, error) {
	return tree.Listing{Backups: f.records}, nil
}

func (f *treeFolder) DeleteTrees(_ context.Context, names []string) ([]string, error) {
	f.deleted = append(f.deleted, names...)
	return names, nil
}

func TestCopiesOfDirectoriesArePrunedByWhenTheyWereFinished(t *testing.T) {
	etc, other := tree.Origin{Source: "laptop:/etc"}, tree.Origin{Source: "laptop:/srv"}
	record := func(n int, name string, of tree.Origin, missing int) tree.Record {
		return tree.Record{Name: name, Origin: of, Finished: dawn.AddDate(0, 0, n), Sequence: int64(n), Missing: missing}
	}
	f := &treeFolder{records: []tree.Record{
		record(1, "20300101-000000", etc, 0), record(2, "20200102-000000", other, 0), record(3, "x20200102-000000", etc, 0),
		record(4, "20200101-000000", etc, 0), record(5, "20200105-000000", etc, 7), record(20, "20100101-000000", etc, 3),
		record(29, "20100102-000000", etc, 3), record(30, "20100103-000000", etc, 3),
	}}
	p := newPruner(1)
	p.MinAge = 7 * 24 * time.Hour
	err := p.Finished(t.Context(), f, f.records[len(f.records)-1])
	if want := []string{"20300101-000000", "20200105-000000", "20100101-000000"}; err != nil || !slices.Equal(f.deleted, want) {
		t.Errorf("deleted %v, %v, want %v", f.deleted, err, want)
	}
}
