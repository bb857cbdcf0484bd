package plan

import (
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

func TestABackupOfAnotherSourceIsNotToBeMovedAway(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]btrfs.Subvolume{
		"run again": {Name: "20260301-120000", ReadOnly: true, ReceivedUUID: btrfs.UUID{1}, ReceivedIn: 7, CreatedIn: 6, ChangedIn: 7},
		"move it":   {Name: "20260301-120000"},
	} {
		p := Planner{Backups: Side{Listing: btrfs.Listing{InDirectory: []btrfs.Subvolume{s}}}}
		if got := p.PastName(s.Name); !strings.Contains(got, want) {
			t.Errorf("%+v: %s", s, got)
		}
	}
}
