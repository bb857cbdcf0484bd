package host_test

import (
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

func TestOfCopiesOfTwoSourcesWithOneReceivedUUIDNoneHasAnOrigin(t *testing.T) {
	uuid := func(n byte) btrfs.UUID { return btrfs.UUID{n} }
	listing := btrfs.Listing{InDirectory: []btrfs.Subvolume{
		{Name: "new", ReceivedUUID: uuid(1)}, {Name: "old", ReceivedUUID: uuid(1)}, {Name: "other", ReceivedUUID: uuid(2)},
	}}
	known := host.Origins{uuid(1): uuid(10), uuid(2): uuid(20), uuid(3): uuid(30)} // the last is gone
	for origin, want := range map[btrfs.UUID]btrfs.UUID{uuid(10): uuid(10), uuid(11): {}} {
		got, changed := known.Add("new", origin, listing)
		if !changed || len(got) != 2 || got[uuid(1)] != want || got[uuid(2)] != uuid(20) {
			t.Errorf("of %s: %v", origin, got)
		}
	}
	alone := btrfs.Listing{InDirectory: listing.InDirectory[:1]}
	here, _ := known.Add("new", uuid(11), alone)
	content, err := here.Marshal()
	check(t, err)
	if got, err := host.ParseOrigins(host.File{Content: content}); err != nil || got[uuid(1)] != uuid(11) {
		t.Errorf("sent once more by another source: %v, %v", got, err)
	}
}
