package main

import (
	"path/filepath"
	"slices"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
)

func TestSubvolumesBelowASourceComeBackFromAStore(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		alice := *r
		alice.source = filepath.Join(r.source, "alice")
		btrfstest.Run(r, "btrfs", "subvolume", "create", alice.source)
		for n := range 2 {
			r.write("data", (n+1)*smallPart)
			alice.write("data", (n+1)*smallPart)
			expect(r, exitDone, r.saves("--recursive"), "2 subvolumes, itself included", "complete")
		}
		for _, one := range []*offsiteRig{r, &alice} {
			if taken, held := one.snapshots(), one.held(); len(taken) != 2 || !slices.Equal(taken, held) {
				r.Fatalf("of %s: %q, held %q", one.source, taken, held)
			}
			target := filepath.Join(btrfstest.New(r, rigSize).Dir, "back")
			expect(r, exitDone, one.restores(nil, "", "-i", r.key, target))
			// In the place of alice the upper one has nothing.
			btrfstest.Run(r, "diff", "-r", "-x", "alice", "-x", "snapshot", one.source, target)
		}
	})
}
