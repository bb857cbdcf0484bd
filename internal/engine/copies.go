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
	there map[btrfs.UUID][]btrfs.Subvolume // in the folder of the destination, by both UUIDs
	all   []btrfs.Subvolume                // on its filesystem
}

func newPairing(here []btrfs.Subvolume, destination btrfs.Listing) pairing {
	p := pairing{make(map[btrfs.UUID][]btrfs.Subvolume), make(map[btrfs.UUID][]btrfs.Subvolume), destination.All}
	for _, s := range here {
		if s.Received() {
			p.here[s.ReceivedUUID] = append(p.here[s.ReceivedUUID], s)
		}
	}
	for _, b := range destination.InDirectory {
		if _, incoming := btrfs.IncomingOf(b.Name); incoming {
			continue
		}
		p.there[b.UUID] = append(p.there[b.UUID], b)
		if !b.ReceivedUUID.IsZero() {
			p.there[b.ReceivedUUID] = append(p.there[b.ReceivedUUID], b)
		}
	}
	return p
}

// named gives the subvolumes in the folder that the UUIDs tell to be copies of s. One that is planned only has no UUID.
func (p pairing) named(s btrfs.Subvolume) []btrfs.Subvolume {
	if s.Identity().IsZero() {
		return nil
	}
	return p.there[s.Identity()]
}

// backupsOf gives those of them that hold what s holds.
func (p pairing) backupsOf(s btrfs.Subvolume) []btrfs.Subvolume {
	return slices.DeleteFunc(slices.Clone(p.named(s)), func(b btrfs.Subvolume) bool { return !p.fits(s, b) })
}

// fits tells that b, which is named so, holds what s holds. Where several subvolumes here have the received UUID of s but are
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

// canBeParent tells that `btrfs receive` builds upon what s holds, whichever copy of s it takes there. The versions in sent
// will be there too.
func (p pairing) canBeParent(s btrfs.Subvolume, sent []btrfs.Subvolume) bool {
	taken := copiesTaken(s, p.all)
	for _, c := range taken {
		if c.UUID != s.UUID && !p.fits(s, c) && !isTwin(c, taken, func(o btrfs.Subvolume) bool { return p.fits(s, o) }) {
			return false
		}
	}
	return !slices.ContainsFunc(sent, func(o btrfs.Subvolume) bool {
		return o.UUID != s.UUID && !s.Identity().IsZero() && o.Identity() == s.Identity()
	})
}

// ErrWrongParent is in the error of a transfer that `btrfs receive` did not build upon what the parent holds.
var ErrWrongParent = errors.New("the received subvolume is not built on a copy of")

// BuildsOn tells that a received subvolume is built on a copy of parent, as which there is one at the destination.
func BuildsOn(received, parent btrfs.Subvolume, there []btrfs.Subvolume) bool {
	copies := copiesTaken(parent, there)
	fits := func(c btrfs.Subvolume) bool { return pairing{}.fits(parent, c) }
	return slices.ContainsFunc(copies, func(c btrfs.Subvolume) bool {
		return c.UUID == received.ParentUUID && (fits(c) || isTwin(c, copies, fits))
	})
}

// copiesTaken gives the subvolumes of which `btrfs receive` takes one as the parent s, or takes data of it
// (btrfs-progs/cmds/receive.c: process_snapshot, process_clone).
func copiesTaken(s btrfs.Subvolume, there []btrfs.Subvolume) (copies []btrfs.Subvolume) {
	for _, c := range there {
		if id := s.Identity(); !id.IsZero() && (c.ReceivedUUID == id || c.UUID == id) {
			copies = append(copies, c)
		}
	}
	return copies
}

// isTwin tells that c is a read-only snapshot of a good one among others, and as good as that.
func isTwin(c btrfs.Subvolume, others []btrfs.Subvolume, good func(btrfs.Subvolume) bool) bool {
	return c.ReadOnly && !c.Received() && c.TouchedIn == 0 &&
		slices.ContainsFunc(others, func(o btrfs.Subvolume) bool { return o.UUID == c.ParentUUID && good(o) })
}
