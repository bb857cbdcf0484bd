// Package copies finds, among subvolumes, the received copies of a snapshot. It is pure.
package copies

import (
	"errors"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// A Finder finds the copies of a snapshot at a destination, by UUID and by what the transactions tell: a received UUID counts for what was
// received itself, and neither side was altered since. It borrows the subvolumes.
type Finder struct {
	here  map[btrfs.UUID]received // at the source, by the received UUID
	there byUUIDs                 // in the folder of the destination
}

// received tells of subvolumes with one received UUID in which transaction they were sent.
type received struct {
	sentIn uint64
	mixed  bool // not all in the same
}

// byUUIDs are subvolumes, by both UUIDs.
type byUUIDs map[btrfs.UUID][]*btrfs.Subvolume

func newCopies(subvolumes []btrfs.Subvolume, leaveOut func(name string) bool) byUUIDs {
	c := make(byUUIDs, 2*len(subvolumes))
	for i := range subvolumes {
		s := &subvolumes[i]
		if leaveOut != nil && leaveOut(s.Name) {
			continue
		}
		c[s.UUID] = append(c[s.UUID], s)
		if !s.ReceivedUUID.IsZero() {
			c[s.ReceivedUUID] = append(c[s.ReceivedUUID], s)
		}
	}
	return c
}

// of gives those that the UUIDs tell to be copies of s, or s itself. One that is planned only has no UUID.
func (c byUUIDs) of(s *btrfs.Subvolume) []*btrfs.Subvolume {
	if s.Identity().IsZero() {
		return nil
	}
	return c[s.Identity()]
}

// New gives what finds copies of the subvolumes here among those of the destination.
func New(here []btrfs.Subvolume, destination btrfs.Listing) Finder {
	f := Finder{here: make(map[btrfs.UUID]received), there: newCopies(destination.InDirectory, btrfs.IsIncoming)}
	for _, s := range here {
		if s.Received() {
			r, again := f.here[s.ReceivedUUID]
			f.here[s.ReceivedUUID] = received{s.SentIn, r.mixed || again && r.sentIn != s.SentIn}
		}
	}
	return f
}

// Of gives the copies of s.
func (f Finder) Of(s btrfs.Subvolume) (copies []btrfs.Subvolume) {
	for _, b := range f.there.of(&s) {
		if f.fits(&s, b) {
			copies = append(copies, *b)
		}
	}
	return copies
}

// fits tells that b, which the UUIDs tell to be a copy of s, holds what s holds. Where several subvolumes here have the received UUID
// of s but are not copies of the same state, the number must tell which of them b is a copy of.
func (f Finder) fits(s, b *btrfs.Subvolume) bool {
	sent := b.Received() && s.CreatedIn <= b.SentIn && b.SentIn <= s.ChangedIn // by s itself
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

func (f Finder) isShared(s *btrfs.Subvolume) bool {
	r, some := f.here[s.ReceivedUUID]
	return some && (r.mixed || r.sentIn != s.SentIn)
}

// IsComplete tells a complete backup: a receiver sets the received UUID and the read-only flag at the very end. One that
// somebody altered since is a backup no more.
func IsComplete(s btrfs.Subvolume) bool { return s.ReadOnly && s.Received() && s.AlteredIn == 0 }

// ErrWrongParent is in the error of a transfer that the receiver did not build upon what the parent holds.
var ErrWrongParent = errors.New("the received subvolume is not built on a copy of")

// BuildsOn tells that a received subvolume is built on a copy of parent, as which there is one at the destination.
func BuildsOn(received, parent btrfs.Subvolume, there []btrfs.Subvolume) bool {
	return slices.ContainsFunc(newCopies(there, nil).of(&parent), func(c *btrfs.Subvolume) bool {
		return c.UUID == received.ParentUUID && Finder{}.fits(&parent, c)
	})
}
