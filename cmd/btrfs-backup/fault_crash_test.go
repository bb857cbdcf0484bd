package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// neverCommits keeps the kernel from writing what nobody asked it to write, as far as a test lasts.
const neverCommits = "commit=300"

func TestWhatIsReportedAsSavedIsOnDisk(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize, neverCommits), btrfstest.New(t, rigSize, neverCommits))
	r.write("large", 4<<20)
	expect(t, exitDone, r.run(nil))
	r.destination = filepath.Join(r.destinationFS.Crash(t), "backups")
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
	r.destination = filepath.Join(r.destinationFS.Crash(t), "backups")
	r.holdsOnly(r.snapshots())
}

func TestSourceGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize, neverCommits), btrfstest.New(t, rigSize))
	r.write("large", 4<<20)
	expect(t, exitDone, r.run(nil))
	before := r.snapshots()
	r.source = filepath.Join(r.sourceFS.Crash(t), "home")
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
	r.destination = filepath.Join(r.destinationFS.Crash(t), "backups")
	if got := onlyCompleteBackups(t, r.source, r.destination); len(got) != 2 {
		t.Fatalf("the backups are %v: the crash came before the commit", got)
	}
}

// What was written just before is in it, too.
func TestASnapshotReportedAsTakenIsOnDisk(t *testing.T) {
	t.Parallel()
	fs := smallFS(t, neverCommits)
	source := newSource(t, fs.Dir, "home")
	taken := backUp(t, exitDone, march(1), "-T", source).Snapshot
	write(t, filepath.Join(source, "file"), "written just now")
	second := backUp(t, exitDone, march(2), "-T", source).Snapshot
	folder := filepath.Join(fs.Crash(t), "home", "snapshot")
	want(t, "snapshots after a crash", names(t, folder), taken, second)
	if content, err := os.ReadFile(filepath.Join(folder, second, "file")); err != nil || string(content) != "written just now" {
		t.Errorf("after a crash the file holds %q, %v", content, err)
	}
}

// newCrashRig makes a rig with one backup on a disk that writes nothing by itself.
func newCrashRig(t testing.TB, kind string) *copyRig {
	t.Helper()
	r := newCopyRig(t, kind)
	btrfstest.Run(t, "mount", "-o", "remount,"+neverCommits, r.destinationFS.Dir)
	r.random(1, 2<<20, "before", "directory/changes")
	r.saves()
	r.random(2, 2<<20, "directory/changes", "new")
	return r
}

// crashes fails the test unless a power failure now leaves so many backups, which are complete.
func (r *copyRig) crashes(backups int) {
	r.Helper()
	r.destination = filepath.Join(r.destinationFS.Crash(r), "backups")
	if got := r.backups(); len(got) != backups {
		r.Fatalf("the backups are %v, not %d", got, backups)
	}
	btrfstest.Equal(r, r.source, r.newest())
	expect(r, exitDone, invoke(r, nil, "verify", r.newest()), "no differences")
}

// The run ends behind the renaming, which is on disk by then.
func TestACopyIsOnDiskBeforeItHasItsFinalName(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"btrfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newCrashRig(t, kind)
			expect(t, 128+int(syscall.SIGKILL), invokeCmd(t, r.command([]string{testOnlyKillAt + "=renamed"})))
			r.crashes(2)
		})
	}
}

func TestACopyReportedAsSavedIsOnDisk(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"btrfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newCrashRig(t, kind)
			r.saves()
			r.crashes(2)
		})
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
