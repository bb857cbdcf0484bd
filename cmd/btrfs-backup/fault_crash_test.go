package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
)

// neverCommits keeps the kernel from writing what nobody asked it to write, as far as a test lasts.
const neverCommits = "commit=300"

// crash gives the filesystem as it would be found after a power failure at this moment. The original is unmounted: the
// kernel refuses to mount two filesystems with the same UUID.
func crash(t testing.TB, fs *btrfstest.FS) (mounted string) {
	t.Helper()
	image := filepath.Join(filepath.Dir(fs.Image), "crashed")
	btrfstest.Run(t, "cp", "--sparse=always", fs.Image, image)
	btrfstest.Run(t, "umount", fs.Dir)
	btrfstest.Run(t, "btrfs", "device", "scan", "--forget")
	mounted = filepath.Join(filepath.Dir(fs.Image), "after")
	crashed := btrfstest.FS{Device: image}
	crashed.Mount(t, mounted, "loop")
	return mounted
}

func TestWhatIsReportedAsSavedIsOnDisk(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize, neverCommits), btrfstest.New(t, rigSize, neverCommits))
	r.write("large", 4<<20)
	expect(t, exitDone, r.run(nil))
	r.destination = filepath.Join(crash(t, r.destinationFS), "backups")
	r.holdsOnly(r.snapshots())
}

// The record of origins does not change with the second transfer of a snapshot, so it writes nothing to the disk on the way.
func TestWhatIsReportedAsSavedAgainIsOnDisk(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize), btrfstest.New(t, rigSize, neverCommits))
	r.write("large", 4<<20)
	expect(t, exitDone, r.run(nil))
	btrfstest.Run(t, "btrfs", "subvolume", "delete", "--commit-after", filepath.Join(r.destination, r.newest()))
	expect(t, exitDone, r.run(nil, "--no-snapshot"))
	r.destination = filepath.Join(crash(t, r.destinationFS), "backups")
	r.holdsOnly(r.snapshots())
}

func TestSourceGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize, neverCommits), btrfstest.New(t, rigSize))
	r.write("large", 4<<20)
	expect(t, exitDone, r.run(nil))
	before := r.snapshots()
	r.source = filepath.Join(crash(t, r.sourceFS), "home")
	if after := r.snapshots(); !slices.Equal(after, before) {
		t.Fatalf("of the snapshots %v there are %v after a crash", before, after)
	}
	r.holdsOnly(before)
	r.heals()
}

// The run ends between the renaming and what follows, and the kernel commits then, as it may at any time.
func TestDataIsOnDiskBeforeTheFinalName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.write("large", 4<<20)
	expect(t, 128+int(syscall.SIGKILL), r.run([]string{testOnlyKillAt + "=renamed"}))
	nextCommits(t, r.destinationFS)
	r.destination = filepath.Join(crash(t, r.destinationFS), "backups")
	if got := onlyCompleteBackups(t, r.source, r.destination); len(got) != 2 {
		t.Fatalf("the backups are %v: the crash came before the commit", got)
	}
}

// nextCommits waits until what was done so far is committed, and nothing else written: the first transaction that ends may
// have been ending already.
func nextCommits(t testing.TB, fs *btrfstest.FS) {
	t.Helper()
	for _, name := range []string{"one", "two"} {
		last := generation(t, fs)
		if err := os.Mkdir(filepath.Join(fs.Dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return generation(t, fs) > last }, func() string { return "the kernel does not commit" })
	}
}

// generation gives the number of the last transaction on disk.
func generation(t testing.TB, fs *btrfstest.FS) int {
	t.Helper()
	for line := range strings.Lines(btrfstest.Run(t, "btrfs", "inspect-internal", "dump-super", fs.Image)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "generation" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no generation", fs.Image)
	return 0
}
