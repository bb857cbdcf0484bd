package engine

import (
	"errors"
	"slices"

	"btrfs-backup/btrfs"
)

// A pairing finds the backups of a snapshot, by UUID and by what the transactions tell: a received UUID counts for what was
// received itself, and neither side was altered since.
type pairing struct {
	here  map[btrfs.UUID][]btrfs.Subvolume // at the source, those that were received, by the received UUID
	there copies                           // in the folder of the destination
	all   copies                           // on its filesystem
}

// copies are subvolumes, by both UUIDs.
type copies map[btrfs.UUID][]btrfs.Subvolume

func newCopies(subvolumes []btrfs.Subvolume) copies {
	c := make(copies, len(subvolumes))
	for _, s := range subvolumes {
		c[s.UUID] = append(c[s.UUID], s)
		if !s.ReceivedUUID.IsZero() {
			c[s.ReceivedUUID] = append(c[s.ReceivedUUID], s)
		}
	}
	return c
}

// of gives those that the UUIDs tell to be copies of s, or s itself. One that is planned only has no UUID.
func (c copies) of(s btrfs.Subvolume) []btrfs.Subvolume {
	if s.Identity().IsZero() {
		return nil
	}
	return c[s.Identity()]
}

func newPairing(here []btrfs.Subvolume, destination btrfs.Listing) pairing {
	p := pairing{here: make(map[btrfs.UUID][]btrfs.Subvolume), all: newCopies(destination.All)}
	for _, s := range here {
		if s.Received() {
			p.here[s.ReceivedUUID] = append(p.here[s.ReceivedUUID], s)
		}
	}
	p.there = newCopies(slices.DeleteFunc(slices.Clone(destination.InDirectory), func(b btrfs.Subvolume) bool {
		_, incoming := btrfs.IncomingOf(b.Name)
		return incoming
	}))
	return p
}

// backupsOf gives the backups of s.
func (p pairing) backupsOf(s btrfs.Subvolume) []btrfs.Subvolume {
	return slices.DeleteFunc(slices.Clone(p.there.of(s)), func(b btrfs.Subvolume) bool { return !p.fits(s, b) })
}

// fits tells that b, which the UUIDs tell to be a copy of s, holds what s holds. Where several subvolumes here have the received UUID of s but are
// not copies of the same state, the number must tell which of them b is a copy of.
func (p pairing) fits(s, b btrfs.Subvolume) bool {
	sent := s.CreatedIn <= b.SentIn && b.SentIn <= s.ChangedIn // by s itself
	switch {
	case !b.ReadOnly || b.TouchedIn != 0 || b.UUID != s.Identity() && !b.Received():
		return false
	case s.TouchedIn != 0:
		return sent && b.SentIn >= s.TouchedIn
	case b.UUID == s.ReceivedUUID:
		return s.Received()
	case s.ReceivedUUID.IsZero():
		return true
	case !s.Received() || p.isShared(s):
		return sent || s.Received() && s.SentIn == b.SentIn
	}
	return true
}

func (p pairing) isShared(s btrfs.Subvolume) bool {
	return slices.ContainsFunc(p.here[s.ReceivedUUID], func(o btrfs.Subvolume) bool { return o.SentIn != s.SentIn })
}

// canBeParent tells that `btrfs receive` builds upon what s holds, whichever copy of s it takes there, or takes data of
// (btrfs-progs/cmds/receive.c: process_snapshot, process_clone).
func (p pairing) canBeParent(s btrfs.Subvolume) bool {
	taken := p.all.of(s)
	fits := func(c btrfs.Subvolume) bool { return c.UUID == s.UUID || p.fits(s, c) }
	return !slices.ContainsFunc(taken, func(c btrfs.Subvolume) bool { return !fits(c) && !isTwin(c, taken, fits) })
}

// ErrWrongParent is in the error of a transfer that `btrfs receive` did not build upon what the parent holds.
var ErrWrongParent = errors.New("the received subvolume is not built on a copy of")

// BuildsOn tells that a received subvolume is built on a copy of parent, as which there is one at the destination.
func BuildsOn(received, parent btrfs.Subvolume, there []btrfs.Subvolume) bool {
	taken := newCopies(there).of(parent)
	fits := func(c btrfs.Subvolume) bool { return pairing{}.fits(parent, c) }
	return slices.ContainsFunc(taken, func(c btrfs.Subvolume) bool {
		return c.UUID == received.ParentUUID && (fits(c) || isTwin(c, taken, fits))
	})
}

// isTwin tells that c is a read-only snapshot of a good one among others, and as good as that.
func isTwin(c btrfs.Subvolume, others []btrfs.Subvolume, good func(btrfs.Subvolume) bool) bool {
	return c.ReadOnly && !c.Received() && c.TouchedIn == 0 &&
		slices.ContainsFunc(others, func(o btrfs.Subvolume) bool { return o.UUID == c.ParentUUID && good(o) })
}
