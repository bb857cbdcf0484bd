package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

func TestADiskThatIsMountedElsewhereIsTheSameDestination(t *testing.T) {
	t.Parallel()
	source := newSource(t, smallFS(t).Dir, "home")
	folder := filepath.Join(source, "snapshot")
	disk := smallFS(t)
	here, there := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "there")
	for _, at := range []string{here, there} {
		disk.Mount(t, at)
	}
	at := func(dir string) string { return filepath.Join(dir, "home") }

	series(t, 2, source, at(here))
	btrfstest.Unmount(t, here)
	third := backUp(t, exitDone, march(3), "-N1", source, at(there)).Snapshot
	want(t, "snapshots", names(t, folder), third)
	want(t, "parent locks", ledger(t, folder)[third].parentLocks, at(there))

	disk.Mount(t, here) // and now by both names: it is one destination
	fourth := backUp(t, exitDone, march(4), source, at(here), at(there)).Snapshot
	want(t, "parent locks", ledger(t, folder)[fourth].parentLocks, at(here))
	if others := ledger(t, folder); len(others) != 1 {
		t.Errorf("the ledger holds %v", others)
	}
}

// What a destination needs that is away, only the ledger knows.
func TestWithoutItsLedgerNoSnapshotIsDeletedWhileADestinationIsAway(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	first := series(t, 1, source, destination)[0]
	remove(t, filepath.Join(folder, lock.LedgerFile))
	bury(t, destination)

	r := invoke(t, march(2), "-N1", source, destination)
	expect(t, exitFailed, r, "no snapshots are deleted, since a destination may still need them")
	if !exists(filepath.Join(folder, first)) {
		t.Fatal("the parent of the next increment is gone")
	}
	revive(t, destination)
	last := backUp(t, exitDone, march(3), "-N1", source, destination)
	if sent := last.to(t, destination).transfers(); len(sent) != 2 || sent[0] != "20260302-120000<"+first {
		t.Errorf("sent %q", sent)
	}
	want(t, "snapshots", names(t, folder), last.Snapshot)
}

func TestAnotherEmptyDiskInThePlaceOfAKnownOneIsNotFilled(t *testing.T) {
	t.Parallel()
	source := newSource(t, smallFS(t).Dir, "home")
	folder := filepath.Join(source, "snapshot")
	mountPoint := filepath.Join(t.TempDir(), "usb")
	smallFS(t).Mount(t, mountPoint)
	series(t, 2, source, mountPoint)
	remove(t, filepath.Join(folder, lock.LedgerFile)) // this machine remembers, too
	smallFS(t).Mount(t, mountPoint)

	for _, dry := range []string{"--dry-run", "--dry-run=false"} {
		expect(t, exitFailed, invoke(t, march(3), dry, source, mountPoint), "the backups that were made there are gone",
			"hint: is its disk mounted? --new-destination")
		want(t, "written", everything(t, mountPoint))
	}
	backUp(t, exitDone, march(4), "--new-destination", source, mountPoint)
	backUp(t, exitDone, march(5), source, mountPoint)
}

// What failed for the first time left an empty folder, which is the one that is on record.
func TestADestinationWhoseFirstBackupFailedGoesOn(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	broken := newTap(t, "cut 1/2")
	expect(t, exitFailed, invoke(t, append(march(1), broken.environ()...), source, destination))
	if !exists(destination) {
		t.Fatal("the transfer did not even begin")
	}
	backUp(t, exitDone, march(2), source, destination)
}

func TestASourceWithASwapFileInUseIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	swap := filepath.Join(source, "swap file")
	write(t, swap, "")
	btrfstest.Run(t, "chattr", "+C", swap)
	btrfstest.Run(t, "dd", "if=/dev/zero", "of="+swap, "bs=1M", "count=8", "status=none")
	btrfstest.Check(t, os.Chmod(swap, 0o600))
	btrfstest.Run(t, "mkswap", swap)
	btrfstest.Run(t, "swapon", swap)
	defer btrfstest.Run(t, "swapoff", swap)

	failed := expect(t, exitFailed, invoke(t, march(1), "--snapshot-folder", "some/folder", source, destination),
		"the swap file "+swap+" in it is in use", "hint: put swap files into a subvolume of their own")
	tellsOnce(t, failed)
	want(t, "source", everything(t, source), "file", "swap file")
	if exists(destination) {
		t.Errorf("%s was made", destination)
	}
}
