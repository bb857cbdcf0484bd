package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// another makes one more destination, which holds the newest snapshot.
func (r *rig) another(fs *btrfstest.FS) string {
	r.Helper()
	destination := filepath.Join(fs.Dir, "backups")
	expect(r, exitDone, r.runTo(nil, "-S", r.source, destination))
	return destination
}

// fill leaves about so many bytes free on the filesystem.
func fill(t testing.TB, fs *btrfstest.FS, free int64) {
	t.Helper()
	file, err := os.Create(filepath.Join(fs.Dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-free); err != nil {
		t.Fatal(err)
	}
}

func TestFullDestinationFailsOnceAndHealsWithSpace(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize), btrfstest.New(t, 128<<20))
	before := names(t, r.destination)
	fill(t, r.destinationFS, 4<<20)
	r.write("large", 12<<20)
	streams := newTap(t)
	expect(t, exitFailed, r.run(streams.environ()), "btrfs-backup: error: sending ", " to "+r.destination, "no space left on device",
		"btrfs-backup: hint: make room at "+r.destination)
	streams.passed(t, 1)
	r.holdsOnly(before)
	btrfstest.Run(t, "rm", filepath.Join(r.destinationFS.Dir, "filler"))
	r.heals()
}

func TestFullDestinationDoesNotStopAnother(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize), btrfstest.New(t, 128<<20))
	other := r.another(btrfstest.New(t, rigSize))
	before := names(t, r.destination)
	fill(t, r.destinationFS, 4<<20)
	r.write("large", 12<<20)
	expect(t, exitPartly, r.runTo(nil, "-n", "1", r.source, r.destination, other), "no space left on device")
	r.holdsOnly(before)
	r.isSaved(other)
}

// newRigOnDisk makes a rig whose destination is mounted within the filesystem of the source.
func newRigOnDisk(t testing.TB) *rig {
	t.Helper()
	sourceFS, disk := btrfstest.New(t, rigSize), btrfstest.New(t, rigSize)
	disk.Dir = filepath.Join(sourceFS.Dir, "disk")
	disk.Mount(t, disk.Dir)
	return newRigOn(t, sourceFS, disk)
}

func TestKnownDestinationWhoseFolderIsGoneIsNotCreated(t *testing.T) {
	t.Parallel()
	r := newRigOnDisk(t)
	btrfstest.Unmount(t, r.destinationFS.Dir)
	expect(t, exitFailed, r.run(nil), "btrfs-backup: error: destination", r.destination, "btrfs-backup: hint: ", "is its disk mounted?")
	if exists(r.destination) {
		t.Errorf("%s was created", r.destination)
	}
}

func TestKnownDestinationThatIsAnEmptyFolderOfTheSourceIsRefused(t *testing.T) {
	t.Parallel()
	r := newRigOnDisk(t)
	btrfstest.Unmount(t, r.destinationFS.Dir)
	btrfstest.Run(t, "mkdir", r.destination)
	expect(t, exitFailed, r.run(nil), "btrfs-backup: error: destination "+r.destination+": the backups that were made there are gone",
		"btrfs-backup: hint: is its disk mounted?", "--new-destination")
	r.holdsOnly(nil)
	expect(t, exitDone, r.run(nil, "--new-destination", "--same-filesystem"))
	r.isSaved(r.destination)
}

func TestAFullSourceIsFreedByItsRetention(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, 128<<20), btrfstest.New(t, rigSize))
	r.write("large", 20<<20)
	expect(t, exitDone, r.run(nil))
	btrfstest.Run(t, "rm", filepath.Join(r.source, "large"))
	btrfstest.Run(t, "sh", "-c", `dd if=/dev/zero of="$1/fill" bs=64k 2>"$1/said"; for i in $(seq 5000); do echo xxxxxxxxxxxxxxxxxxxxxxxxx >"$1/s$i" || break; done 2>"$1/said"; sync -f "$1"`,
		"sh", r.source)
	failed := expect(t, exitPartly, r.run(nil), "btrfs-backup: error: writing "+filepath.Join(r.source, "snapshot", ".outstanding_transfers")+": no space left on device",
		"hint: make room at ", "-N N SOURCE")
	if strings.Contains(failed.stderr, "/proc/self") || strings.Count(failed.stderr, "error: ") != 1 {
		t.Error(failed.stderr)
	}
	expect(t, exitDone, r.run(nil, "-N", "1"))
	newest := r.newest()
	if got := r.snapshots(); len(got) != 1 {
		t.Errorf("snapshots: %v", got)
	}
	r.hasInCommon(newest, r.destination)
}
