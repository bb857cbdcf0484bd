package engine

import (
	"context"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// firstSource has no snapshot folder at first, and so no lock: another run prunes what this one takes.
type firstSource struct {
	*fakeSource
	listed int
}

func (s *firstSource) List(ctx context.Context, ours func(string) bool) (Snapshots, error) {
	found, err := s.fakeSource.List(ctx, ours)
	if s.listed++; s.listed == 1 {
		found.Missing, found.Listing = true, btrfs.Listing{}
	}
	return found, err
}

func (s *firstSource) Take(context.Context, string) (btrfs.Subvolume, error) { return snap(1), nil }

func TestWhatAnotherRunHasDeletedBeforeThereWasALockIsNeitherSentNorDeleted(t *testing.T) {
	source, destination := newFakes(snap(2))
	save(t, jobOf(&firstSource{fakeSource: source}, destination, func(j *Job) { j.NoSnapshot, j.KeepSnapshots.Last = false, 1 }))
	destination.want(t, "send 2")
}
