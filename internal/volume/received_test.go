package volume

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/host"
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

// received is the backup of the nth day.
func received(n uint64, changes ...func(*btrfs.Subvolume)) btrfs.Subvolume {
	s := btrfs.Subvolume{ID: 256 + n, Name: day(n), UUID: btrfs.UUID{1, byte(n)}, ReceivedUUID: btrfs.UUID{2, byte(n)}, ReadOnly: true,
		CreatedIn: 10 + n, ReceivedIn: 10 + n, ChangedIn: 10 + n}
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

func newPruner(keep int) *ReceivedPruner {
	return &ReceivedPruner{Last: keep, Log: slog.New(slog.DiscardHandler)}
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
