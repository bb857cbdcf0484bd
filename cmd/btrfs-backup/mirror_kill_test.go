package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// newMirrorRig makes a rig with a subvolume as its source, of which mirrors are made. It gives the options for that, and the folder of
// snapshots.
func newMirrorRig(t testing.TB) (r *copyRig, options []string, snapshots string) {
	t.Helper()
	r = newCopyRig(t, "ext4")
	top := btrfstest.New(t, copyRigSize).Dir
	r.source, snapshots = filepath.Join(top, "source"), filepath.Join(top, "snapshots")
	btrfstest.Run(t, "btrfs", "subvolume", "create", r.source)
	return r, []string{"--engine", "mirror", "--snapshot-folder", snapshots, "-n", "2", "-N", "2"}, snapshots
}

func TestAMirrorKilledAtAnyStepLeavesOnlyCompleteBackupsAndHeals(t *testing.T) {
	t.Parallel()
	r, options, snapshots := newMirrorRig(t)
	seen := make(map[string]history)
	onlyCopies := func() {
		t.Helper()
		for _, name := range r.backups() {
			path := filepath.Join(r.destination, name)
			if was, known := seen[name]; known {
				was.unchanged(r, path)
				continue
			}
			btrfstest.Equal(t, filepath.Join(snapshots, name), path, btrfstest.OwnAttributes)
			expect(t, exitDone, invoke(t, nil, "verify", path))
			seen[name] = historyOf(r, path)
		}
	}
	change := func() {
		r.change()
		btrfstest.Check(t, os.RemoveAll(r.at("moved")))
		btrfstest.Check(t, os.Rename(r.at("directory"), r.at("moved")))
	}
	heal := func() {
		t.Helper()
		change()
		expect(t, exitDone, r.run(options...))
		onlyCopies()
		r.nothingUnfinished()
		if len(r.backups()) != 2 {
			t.Fatalf("there are %v", r.backups())
		}
	}
	change()
	expect(t, exitDone, r.run(options...))
	heal()
	kill := func(at string) result {
		change()
		killed := invokeCmd(t, r.command([]string{testOnlyKillAt + "=" + at}, options...))
		r.noRsync()
		onlyCopies()
		return killed
	}
	if !btrfstest.All() {
		for _, step := range []string{"linked", "grown", "rsync ended"} { // all others are those of other copies
			if at := kill(step).step(); at != step {
				t.Errorf("killed at %q, not %q", at, step)
			}
			heal()
		}
		return
	}
	isKilledAtEachStep(t, kill, heal, "partial copy made", "linked", "grown", "rsync ended", "state written", "synced", "renamed", "removed", "link replaced")
}
