package host

import (
	"cmp"
	"context"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
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
	MayLive bool         // the older ones may be backed up again
}

// Continue notes that a source goes on with the history of another one, and all that this one went on with: behind its own. With
// certainty, whoever was restored beside the other one is apart from both.
func (a *About) Continue(c Continuation, older btrfs.UUID, origins Origins) {
	source := c.Source.Subvolume
	about := a.Sources[source]
	if c.Source.Source != "" {
		about.Origin = tree.Origin{Source: limited(c.Source.Source), Machine: limited(c.Source.Machine)}
	}
	about.Apart = slices.DeleteFunc(about.Apart, func(other btrfs.UUID) bool { return other == older })
	a.set(source, about)
	if other, ok := a.Sources[older]; ok {
		other.Apart = slices.DeleteFunc(other.Apart, func(other btrfs.UUID) bool { return other == source })
		a.set(older, other)
	}
	a.end(source)
	if !c.MayLive {
		a.partRestored(older)
	}
	newest := a.Newest(older, origins)
	if newest == source {
		return
	}
	if !c.MayLive {
		a.end(newest) // if several went on with it
	}
	oldest := source
	for range a.Sources {
		before := a.Sources[oldest].Continues
		if before.IsZero() || before == newest {
			break
		}
		oldest = before
	}
	about = a.Sources[oldest]
	about.Continues, about.MayLive = newest, c.MayLive
	a.set(oldest, about)
}

// end lets nothing continue a source.
func (a *About) end(continued btrfs.UUID) (ended []btrfs.UUID) {
	for source, about := range a.Sources {
		if about.Continues == continued {
			about.Continues, about.MayLive = btrfs.UUID{}, false
			a.set(source, about)
			ended = append(ended, source)
		}
	}
	return ended
}

// part keeps a source that lives apart from all that began with its history.
func (a *About) part(lives btrfs.UUID) {
	about := a.Sources[lives]
	for _, source := range a.end(lives) {
		if !slices.Contains(about.Apart, source) {
			about.Apart = append(about.Apart, source)
		}
	}
	a.set(lives, about)
}

// partRestored is part, but for what continues the source with certainty.
func (a *About) partRestored(lives btrfs.UUID) {
	about := a.Sources[lives]
	for source, other := range a.Sources {
		if other.Continues == lives && other.MayLive {
			about.Apart = append(about.Apart, source)
			other.Continues, other.MayLive = btrfs.UUID{}, false
			a.set(source, other)
		}
	}
	if len(about.Apart) > 0 {
		a.set(lives, about)
	}
}

// MayLive gives the names of backups that stay since their source may live: the newest of each that was restored to another place. It
// tells of which that is.
func (c Content) MayLive() map[string]string {
	origins, about, err := c.RecordedOwn("")
	if err != nil { // then nothing is deleted
		return nil
	}
	return about.LivingOf(c.InDirectory, origins)
}

// LivingOf is Content.MayLive of what was read before: the origins are those of RecordedOwn.
func (a About) LivingOf(backups []btrfs.Subvolume, origins Origins) map[string]string {
	names := make(map[string]string)
	for _, restored := range a.Sources {
		if !restored.MayLive || restored.Continues.IsZero() {
			continue
		}
		var newest btrfs.Subvolume
		for _, s := range backups {
			if s.ReadOnly && s.Received() && origins[s.ReceivedUUID] == restored.Continues && s.CreatedIn > newest.CreatedIn {
				newest = s
			}
		}
		if of := a.Name(restored.Continues); newest.Name != "" {
			names[newest.Name] = "the newest of " + cmp.Or(of, "its source") + ", which may live"
		}
	}
	return names
}
