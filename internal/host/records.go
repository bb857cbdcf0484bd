package host

import (
	"context"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/tree"
)

// Records tell whose the backups of subvolumes in a folder are.
type Records interface {
	// Continue records that a source goes on with the history of others, for which the folder should be locked. Backups that are
	// made of one of these later make it a source of its own again.
	Continue(ctx context.Context, c Continuation) error
}

// TreeRecords tell whose the backups of directory trees in a folder are.
type TreeRecords interface {
	// ContinueTrees is Continue for directories.
	ContinueTrees(ctx context.Context, source tree.Origin, older []tree.Origin) error
}

// A Continuation tells what a source goes on with.
type Continuation struct {
	Source  Origin
	Older   []btrfs.UUID // sources that it was before
	Backups []btrfs.UUID // received UUIDs for which no source is on record: its own, too
}

// Continue notes that a source goes on with the history of another one, and all that this one went on with: behind its own.
func (a *About) Continue(source Origin, older btrfs.UUID) {
	about := a.Sources[source.Subvolume]
	if source.Source != "" {
		about.Origin = tree.Origin{Source: limited(source.Source), Machine: limited(source.Machine)}
	}
	a.set(source.Subvolume, about)
	a.end(source.Subvolume)
	newest := a.Newest(older)
	if newest == source.Subvolume {
		return
	}
	a.end(newest) // if several went on with it
	oldest := source.Subvolume
	for range a.Sources {
		before := a.Sources[oldest].Continues
		if before.IsZero() || before == newest {
			break
		}
		oldest = before
	}
	about = a.Sources[oldest]
	about.Continues = newest
	a.set(oldest, about)
}

// end lets nothing continue a source.
func (a *About) end(continued btrfs.UUID) {
	for source, about := range a.Sources {
		if about.Continues == continued {
			about.Continues = btrfs.UUID{}
			a.set(source, about)
		}
	}
}
