package replace

import (
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

func TestASubvolumeWhoseRestoreDidNotEndIsNotCurrent(t *testing.T) {
	made := btrfs.Subvolume{ID: 300, Container: 5, DirID: 256, Name: "home", CreatedIn: 20}
	old := btrfs.Subvolume{ID: 257, Container: 5, DirID: 256, Name: Hidden("home"), CreatedIn: 10}
	elsewhere, next := old, old
	elsewhere.DirID, next.CreatedIn = 300, 30 // that of another subvolume; the one to come, before the places are exchanged
	for other, refused := range map[btrfs.Subvolume]bool{old: true, elsewhere: false, next: false} {
		err := CheckCurrent(made, "/home", btrfs.Listing{All: []btrfs.Subvolume{made, other}})
		if (err != nil && strings.Contains(err.Error(), "did not come to its end")) != refused {
			t.Errorf("beside %+v: %v", other, err)
		}
	}
}
