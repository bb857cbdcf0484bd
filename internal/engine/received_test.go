package engine

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"btrfs-backup/btrfs"
)

// selfPruning is a folder that prunes itself.
type selfPruning struct {
	backups subvolumes
	origins map[btrfs.UUID]btrfs.UUID
	deleted []string
}

func (f *selfPruning) List(context.Context) (btrfs.Listing, error) {
	return btrfs.Listing{InDirectory: f.backups}, nil
}

func (f *selfPruning) Origins(context.Context) (map[btrfs.UUID]btrfs.UUID, error) {
	return f.origins, nil
}

func (f *selfPruning) Delete(_ context.Context, names []string) ([]string, error) {
	f.deleted = append(f.deleted, names...)
	return names, nil
}

func TestAReceiverPrunesTheSeriesAndSourceOfWhatItReceivedOnly(t *testing.T) {
	other := uuid(77)
	own := func(n uint64, changes ...change) btrfs.Subvolume { return foreign(n, changes...) }
	tests := []struct {
		name    string
		backups subvolumes
		origins map[uint64]btrfs.UUID // by day
		keep    int
		want    []string
	}{
		{"the oldest go", subvolumes{own(1), own(2), own(3), own(9)}, map[uint64]btrfs.UUID{1: home.UUID, 2: home.UUID, 3: home.UUID, 9: home.UUID}, 2,
			[]string{day(1), day(2)}},
		{"no more than there are", subvolumes{own(8), own(9)}, map[uint64]btrfs.UUID{8: home.UUID, 9: home.UUID}, 2, nil},
		{"not those of another source", subvolumes{own(1), own(2), own(9)}, map[uint64]btrfs.UUID{1: other, 2: home.UUID, 9: home.UUID}, 1,
			[]string{day(2)}},
		{"not those of nobody on record", subvolumes{own(1), own(2), own(9)}, map[uint64]btrfs.UUID{2: home.UUID, 9: home.UUID}, 1, []string{day(2)}},
		{"nothing when the new one is not on record", subvolumes{own(1), own(2), own(9)}, map[uint64]btrfs.UUID{1: home.UUID, 2: home.UUID}, 1, nil},
		{"not what is unfinished, writable, or not received",
			subvolumes{own(1, hidden), own(2, writable), own(3, neverReceived), own(4), own(9)},
			map[uint64]btrfs.UUID{1: home.UUID, 2: home.UUID, 3: home.UUID, 4: home.UUID, 9: home.UUID}, 1, []string{day(4)}},
		{"not those of another series", subvolumes{own(1, named("etc"+day(1))), own(2), own(9)},
			map[uint64]btrfs.UUID{1: home.UUID, 2: home.UUID, 9: home.UUID}, 1, []string{day(2)}},
		{"by the order of receiving, whatever the dates", subvolumes{own(1, named(day(25))), own(2, named("20300101-000000")), own(3, named(day(1))), own(9)},
			map[uint64]btrfs.UUID{1: home.UUID, 2: home.UUID, 3: home.UUID, 9: home.UUID}, 2, []string{day(25), "20300101-000000"}},
		{"not what is in use", subvolumes{own(1, func(s *btrfs.Subvolume) { s.Default = true }), own(2, func(s *btrfs.Subvolume) { s.Mounted = true }), own(3), own(9)},
			map[uint64]btrfs.UUID{1: home.UUID, 2: home.UUID, 3: home.UUID, 9: home.UUID}, 1, []string{day(3)}},
		{"a policy that keeps all", subvolumes{own(1), own(9)}, map[uint64]btrfs.UUID{1: home.UUID, 9: home.UUID}, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &selfPruning{backups: test.backups, origins: make(map[btrfs.UUID]btrfs.UUID)}
			for n, origin := range test.origins {
				f.origins[foreign(n).ReceivedUUID] = origin
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
	f := &selfPruning{origins: make(map[btrfs.UUID]btrfs.UUID)}
	for n := range uint64(9) {
		f.origins[foreign(n+1).ReceivedUUID] = home.UUID
	}
	f.backups = subvolumes{foreign(1), foreign(2)}
	p := newPruner(2)
	for n := uint64(3); n <= 6; n++ {
		f.backups = append(f.backups, foreign(n))
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
	f.backups, f.deleted = append(f.backups, foreign(7)), nil
	if err := newPruner(2).Received(t.Context(), f, day(7)); err != nil || !slices.Equal(f.deleted, []string{day(3), day(4), day(5)}) {
		t.Errorf("the next client: deleted %v, %v", f.deleted, err)
	}
}
