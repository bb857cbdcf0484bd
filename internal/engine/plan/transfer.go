package plan

import (
	"math"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// A Transfer is one version to be saved.
type Transfer struct {
	Snapshot btrfs.Subvolume  // of a source that is no History, the name alone
	Parent   *btrfs.Subvolume // upon which it builds, as Snapshot; nil: a complete copy
	Why      string           // in words; "" where there is no more to it
	Started  time.Time
	Role     Role
}

// ParentName gives the name of the version upon which it builds, or "".
func (t Transfer) ParentName() string {
	if t.Parent == nil {
		return ""
	}
	return t.Parent.Name
}

// How tells in words upon what the transfer builds.
func (t Transfer) How() string {
	if t.Parent == nil {
		return "a complete copy"
	}
	return "an increment to " + t.Parent.Name
}

// transfers gives those of versions, each of which builds upon one that is there, or was sent before.
func (p Planner) transfers(bases bases, missing []btrfs.Subvolume) []Transfer {
	transfers := make([]Transfer, len(missing))
	for i := range missing {
		s := &missing[i]
		transfers[i].Snapshot = *s
		if t, ok := bases.(*tree); ok {
			transfers[i].Role = t.roleOf(s)
		}
		if !p.Incremental {
			continue
		}
		for base := range bases.of(s) {
			transfers[i].Parent = base
			break
		}
		if t, ok := bases.(*tree); ok {
			transfers[i].Why = t.why(s, transfers[i].Parent)
		}
		bases.sent(s, transfers[i].Parent)
	}
	return transfers
}

// Bases gives the versions that s can build upon, the best one first.
func (p Planner) Bases(s btrfs.Subvolume) (bases []btrfs.Subvolume) {
	for base := range p.relation().bases().of(&s) {
		bases = append(bases, *base)
	}
	return bases
}

// Pending is a version that does not exist, newer than all that do.
func Pending(name string, of btrfs.UUID) btrfs.Subvolume {
	return btrfs.Subvolume{ID: math.MaxUint64, Name: name, ParentUUID: of, ReadOnly: true, CreatedIn: math.MaxUint64}
}

// Assumed is the backup of a version at a destination that cannot be listed.
func Assumed(s btrfs.Subvolume) btrfs.Subvolume {
	return btrfs.Subvolume{ID: s.ID, Name: s.Name, UUID: s.UUID, ReceivedUUID: s.Identity(), ReadOnly: true, SentIn: s.ChangedIn}
}
