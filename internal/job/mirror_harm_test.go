package job_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

func (m *mirrorRig) backups() []string {
	found, err := filepath.Glob(filepath.Join(m.target, "2*"))
	btrfstest.Check(m.t, err)
	for i, f := range found {
		found[i] = filepath.Base(f)
	}
	return found
}

// What the destination cannot hold makes a mirror incomplete.
const tooLarge = "touch strange; setfattr -n user.big -v $(head -c 9000 /dev/zero | tr '\\0' x) strange"

func TestTheNewestCompleteMirrorStays(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.spec.KeepSnapshots, m.spec.KeepBackups = retention.Policy{Last: 1}, retention.Policy{Last: 1}
	complete := m.mirror()
	m.shell(tooLarge)
	for range 3 {
		m.shell("date +%N >changed")
		r := m.outcome(engine.Partly)
		if all := m.backups(); len(all) != 2 || all[0] != complete || all[1] != r.Snapshot {
			t.Errorf("%q, want %s and %s", all, complete, r.Snapshot)
		}
	}
	m.shell("rm strange")
	if complete, all := m.mirror(), m.backups(); len(all) != 1 || all[0] != complete {
		t.Errorf("%q, want %s", all, complete)
	}
}

// A snapshot is copied as it is, whatever became of its directories in the source since.
func TestASubvolumeThatCameAfterTheSnapshotLeavesNothingOut(t *testing.T) {
	t.Parallel()
	m := newMirrorRig(t, "ext4")
	m.shell("mkdir data; echo 1 >data/f; btrfs -q subvolume create inner")
	to := m.spec.Destinations
	m.spec.Destinations = nil
	m.outcome(engine.Done)
	m.shell("echo 2 >data/g")
	m.outcome(engine.Done)
	m.shell("mv data old; btrfs -q subvolume create data; cp old/* data")
	m.spec.Destinations = to
	m.outcome(engine.Done)
	all := m.backups()
	if len(all) != 3 {
		t.Fatal(all)
	}
	for _, name := range all[:2] {
		btrfstest.Equal(t, filepath.Join(m.spec.Subvolume.Folder, name, "data"), filepath.Join(m.target, name, "data"), btrfstest.OwnAttributes)
		if _, err := os.Lstat(filepath.Join(m.target, name, "inner")); !os.IsNotExist(err) {
			t.Error("a subvolume has a place in the mirror:", err)
		}
	}
}
