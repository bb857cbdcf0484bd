package received

import (
	"cmp"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// Base gives what a subvolume of the folder can be verified upon: one that was verified as a whole, in which nothing differed, and which
// nobody altered since. One that is on record as damaged has none: all of it is read. It is the subvolume itself, or else the nearest older one of the same source, or else the nearest newer one. Without
// any, it is "".
func (f Folder) Base(name string, there []btrfs.Subvolume, isSame func(a, b btrfs.Subvolume) bool) string {
	i := slices.IndexFunc(there, func(s btrfs.Subvolume) bool { return s.Name == name })
	if i < 0 || !f.isGood(there[i], true) {
		return ""
	}
	of := there[i]
	if n, err := f.Verification(of.UUID); err == nil && n.Differences > 0 {
		return ""
	}
	if f.isGood(of, false) {
		return name
	}
	candidates := slices.DeleteFunc(slices.Clone(there), func(s btrfs.Subvolume) bool {
		return s.UUID == of.UUID || !isSame(s, of) || !f.isGood(s, false)
	})
	slices.SortFunc(candidates, func(a, b btrfs.Subvolume) int {
		aNewer, bNewer := a.CreatedIn > of.CreatedIn, b.CreatedIn > of.CreatedIn
		switch {
		case aNewer != bNewer && aNewer:
			return 1
		case aNewer != bNewer:
			return -1
		case aNewer:
			return cmp.Compare(a.CreatedIn, b.CreatedIn)
		}
		return cmp.Compare(b.CreatedIn, a.CreatedIn)
	})
	if len(candidates) == 0 {
		return ""
	}
	return candidates[0].Name
}

// isGood tells that a subvolume is a backup, and was verified unless that may be pending.
func (f Folder) isGood(s btrfs.Subvolume, pending bool) bool {
	if !s.ReadOnly || !s.Received() || s.AlteredIn != 0 || btrfs.IsIncoming(s.Name) {
		return false
	}
	if pending {
		return true
	}
	n, err := f.Verification(s.UUID)
	return err == nil && n.Whole && n.Differences == 0
}
