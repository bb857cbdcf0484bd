// Package copies finds, among subvolumes, the received copies of a snapshot. It is pure.
package copies

import (
	"errors"
	"slices"

	"btrfs-backup/btrfs"
)

// A Finder finds the copies of a snapshot at a destination, by UUID and by what the transactions tell: a received UUID counts for what was
// received itself, and neither side was altered since.
type Finder struct {
	here  map[btrfs.UUID][]btrfs.Subvolume // at the source, those that were received, by the received UUID
	there byUUIDs                          // in the folder of the destination
	all   byUUIDs                          // on its filesystem
}

// byUUIDs are subvolumes, by both UUIDs.
type byUUIDs map[btrfs.UUID][]btrfs.Subvolume

func newCopies(subvolumes []btrfs.Subvolume) byUUIDs {
	c := make(byUUIDs, len(subvolumes))
	for _, s := range subvolumes {
		c[s.UUID] = append(c[s.UUID], s)
		if !s.ReceivedUUID.IsZero() {
			c[s.ReceivedUUID] = append(c[s.ReceivedUUID], s)
		}
	}
	return c
}

// of gives those that the UUIDs tell to be copies of s, or s itself. One that is planned only has no UUID.
func (c byUUIDs) of(s btrfs.Subvolume) []btrfs.Subvolume {
	if s.Identity().IsZero() {
		return nil
	}
	return c[s.Identity()]
}

// New gives what finds copies of the subvolumes here among those of the destination.
func New(here []btrfs.Subvolume, destination btrfs.Listing) Finder {
	f := Finder{here: make(map[btrfs.UUID][]btrfs.Subvolume), all: newCopies(destination.All)}
	for _, s := range here {
		if s.Received() {
			f.here[s.ReceivedUUID] = append(f.here[s.ReceivedUUID], s)
		}
	}
	f.there = newCopies(slices.DeleteFunc(slices.Clone(destination.InDirectory), func(b btrfs.Subvolume) bool {
		return btrfs.IsIncoming(b.Name)
	}))
	return f
}

// Of gives the copies of s.
func (f Finder) Of(s btrfs.Subvolume) []btrfs.Subvolume {
	return slices.DeleteFunc(slices.Clone(f.there.of(s)), func(b btrfs.Subvolume) bool { return !f.fits(s, b) })
}

// fits tells that b, which the UUIDs tell to be a copy of s, holds what s holds. Where several subvolumes here have the received UUID
// of s but are not copies of the same state, the number must tell which of them b is a copy of.
func (f Finder) fits(s, b btrfs.Subvolume) bool {
	sent := s.CreatedIn <= b.SentIn && b.SentIn <= s.ChangedIn // by s itself
	switch {
	case !b.ReadOnly || b.AlteredIn != 0 || b.UUID != s.Identity() && !b.Received():
		return false
	case s.AlteredIn != 0:
		return sent && b.SentIn >= s.AlteredIn
	case b.UUID == s.ReceivedUUID:
		return s.Received()
	case s.ReceivedUUID.IsZero():
		return true
	case !s.Received() || f.isShared(s):
		restored := s.SentIn == b.ChangedIn // s is a copy of b
		return sent || s.Received() && (s.SentIn == b.SentIn || restored)
	}
	return true
}

func (f Finder) isShared(s btrfs.Subvolume) bool {
	return slices.ContainsFunc(f.here[s.ReceivedUUID], func(o btrfs.Subvolume) bool { return o.SentIn != s.SentIn })
}

// CanBeParent tells that `btrfs receive` builds upon what s holds, whichever copy of s it takes there, or takes data of
// (btrfs-progs/cmds/receive.c: process_snapshot, process_clone).
func (f Finder) CanBeParent(s btrfs.Subvolume) bool {
	taken := f.all.of(s)
	fits := func(c btrfs.Subvolume) bool { return c.UUID == s.UUID || f.fits(s, c) }
	return !slices.ContainsFunc(taken, func(c btrfs.Subvolume) bool { return !fits(c) && !isTwin(c, taken, fits) })
}

// IsComplete tells a complete backup: `btrfs receive` sets the received UUID and the read-only flag at the very end. One that
// somebody altered since is a backup no more.
func IsComplete(s btrfs.Subvolume) bool { return s.ReadOnly && s.Received() && s.AlteredIn == 0 }

// ErrWrongParent is in the error of a transfer that `btrfs receive` did not build upon what the parent holds.
var ErrWrongParent = errors.New("the received subvolume is not built on a copy of")

// BuildsOn tells that a received subvolume is built on a copy of parent, as which there is one at the destination.
func BuildsOn(received, parent btrfs.Subvolume, there []btrfs.Subvolume) bool {
	taken := newCopies(there).of(parent)
	fits := func(c btrfs.Subvolume) bool { return Finder{}.fits(parent, c) }
	return slices.ContainsFunc(taken, func(c btrfs.Subvolume) bool {
		return c.UUID == received.ParentUUID && (fits(c) || isTwin(c, taken, fits))
	})
}

// isTwin tells that c is a read-only snapshot of a good one among others, and as good as that.
func isTwin(c btrfs.Subvolume, others []btrfs.Subvolume, good func(btrfs.Subvolume) bool) bool {
	return c.ReadOnly && !c.Received() && c.AlteredIn == 0 &&
		slices.ContainsFunc(others, func(o btrfs.Subvolume) bool { return o.UUID == c.ParentUUID && good(o) })
}
