package btrfs_test

import (
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

func TestHiddenNamesTellTheNamesToCome(t *testing.T) {
	for _, name := range []string{"20260101-000000", "home20260101-000000", ".home20260101-000000", "a.incoming", ".a.incoming"} {
		hidden := btrfs.Incoming(name)
		if got, ok := btrfs.IncomingOf(hidden); got != name || !ok {
			t.Errorf("%q under the hidden name %q is %q, %t", name, hidden, got, ok)
		}
	}
	for _, name := range []string{"20260101-000000", ".20260101-000000", "20260101-000000.incoming", ".latest", ".home_latest", ".incomin", ""} {
		if _, ok := btrfs.IncomingOf(name); ok {
			t.Errorf("%q counts as a hidden name", name)
		}
	}
}
