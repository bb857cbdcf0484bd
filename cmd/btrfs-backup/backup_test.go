package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

const testSize = 512 << 20

// newPair makes a filesystem with a populated subvolume to back up, and another one to back it up to.
func newPair(t testing.TB) (source, destination string) {
	t.Helper()
	source = filepath.Join(btrfstest.New(t, testSize).Dir, "home")
	btrfstest.Run(t, "btrfs", "subvolume", "create", source)
	btrfstest.Populate(t, source, 1)
	return source, filepath.Join(btrfstest.New(t, testSize).Dir, "backups")
}

// names gives the visible entries of a directory, in order.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var visible []string
	for _, e := range entries {
		if e.Name()[0] != '.' {
			visible = append(visible, e.Name())
		}
	}
	return visible
}

func TestBackupIsEqualToItsSnapshotFullAndIncremental(t *testing.T) {
	t.Parallel()
	source, destination := newPair(t)
	for generation := range int64(4) {
		if generation > 0 {
			btrfstest.Change(t, source, generation)
		}
		succeed(t, source, destination)
	}
	snapshots := names(t, filepath.Join(source, "snapshot"))
	if len(snapshots) != 4 {
		t.Fatalf("snapshots: %v", snapshots)
	}
	for _, name := range snapshots {
		isCopy(t, source, destination, name)
	}
}

// isCopy fails the test unless the backup is equal to the snapshot of that name. In a snapshot, an empty directory stands
// for each subvolume of the source, such as an older snapshot; no stream holds it.
func isCopy(t testing.TB, source, destination, name string) {
	t.Helper()
	snapshot := filepath.Join(source, "snapshot", name)
	ignore := []string{btrfstest.RootTime}
	for _, older := range names(t, filepath.Join(snapshot, "snapshot")) {
		ignore = append(ignore, filepath.Join("snapshot", older))
	}
	btrfstest.Equal(t, snapshot, filepath.Join(destination, name), ignore...)
}
