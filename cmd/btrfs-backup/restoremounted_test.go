package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// mountedHome is a subvolume that is mounted by its name, with two backups.
func mountedHome(t *testing.T) (disk *btrfstest.FS, home, destination string, taken []string) {
	t.Helper()
	disk = smallFS(t)
	newSource(t, disk.Dir, "home")
	home, destination = t.TempDir(), filepath.Join(smallFS(t).Dir, "backups")
	disk.Mount(t, home, "subvol=home")
	return disk, home, destination, changed(t, 2, home, destination)
}

// TestTheOldOneIsNotBackedUpWhileItIsMounted has a subvolume mounted that a restore replaced, as until somebody mounts it anew.
func TestTheOldOneIsNotBackedUpWhileItIsMounted(t *testing.T) {
	t.Parallel()
	far := newRemote(t, sshtest.Options{})
	disk, home, destination, taken := mountedHome(t)
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(home, "vm"))
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(home, "vm", "inner"))
	told := expect(t, exitDone, invoke(t, march(3), "restore", "--in-place", "--leave-nested", filepath.Join(destination, taken[0]), home))
	remount := "which must be before the next backup: umount " + home + " && mount " + home
	if at := strings.Index(told.stdout, remount); at < 0 || at > strings.Index(told.stdout, "The next backup") {
		t.Errorf("%s", told.stdout)
	}
	old := filepath.Join(disk.Dir, "home.before-20260303-120000")
	before := append(everything(t, old), names(t, destination)...)
	for _, args := range [][]string{{home, destination}, {"-S", home, destination}, {"-T", home}, {"--engine", "rsync", home, destination + "-rsync"},
		append(far.options, far.place(home), destination)} {
		expect(t, exitFailed, invoke(t, march(4), args...), "still the subvolume that a restore replaced, home.before-20260303-120000, and not home",
			"hint: mount it anew: umount "+home+" && mount "+home)
	}
	want(t, "what there is", append(everything(t, old), names(t, destination)...), before...)
	expect(t, exitDone, invoke(t, march(4), "-T", old)) // whoever means it names it

	btrfstest.Unmount(t, home)
	disk.Mount(t, home, "subvol=home")
	next := backUp(t, exitDone, march(5), home, destination)
	want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[1])

	_, command, _ := strings.Cut(told.stdout, "When nobody needs the old one, nor the 2 subvolumes in it, this deletes them by their IDs: ")
	command, _, _ = strings.Cut(command, "\n")
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "delete", filepath.Join(old, "snapshot", "20260304-120000")) // which was taken since
	if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil || exists(old) {
		t.Errorf("%s: %v: %s", command, err, out)
	}
	isRestored(t, home, filepath.Join(destination, taken[0]))
}

func TestARestoreOfAnotherBackupGoesPastOneThatWasInterrupted(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := changed(t, 2, source, destination)
	oldest, newest := filepath.Join(destination, taken[0]), filepath.Join(destination, taken[1])
	killed := func(step string, args ...string) {
		t.Helper()
		if r := invoke(t, append(march(3), testOnlyKillAt+"="+step), append([]string{"restore"}, args...)...); r.step() != step {
			t.Fatalf("not killed:\n%s", r.stderr)
		}
	}
	killed("subvolumes exchanged", "--in-place", newest, source)
	expect(t, exitDone, invoke(t, march(3), "restore", "--dry-run", "--in-place", oldest, source), "an earlier restore to "+source+" was interrupted")
	expect(t, exitDone, invoke(t, march(3), "restore", "--in-place", oldest, source), "that one was of another backup",
		"the old one, whose ID is ", ", this deletes it: btrfs subvolume delete --subvolid ")
	isRestored(t, source, oldest)
	want(t, "what is there", names(t, filepath.Dir(source)), "home", "home.before-20260303-120000", "home.before-20260303-120001")

	disk := smallFS(t).Dir
	home := filepath.Join(disk, "home")
	killed("snapshot arrived", newest, home)
	expect(t, exitDone, invoke(t, march(3), "restore", oldest, home))
	isRestored(t, home, oldest)
	want(t, "what is there", names(t, disk), "home")
	want(t, "snapshots", names(t, filepath.Join(home, "snapshot")), taken[0])
	if s, err := btrfs.List(btrfstest.Open(t, disk)); err != nil || len(s.All) != 2 {
		t.Errorf("%+v, %v", s.All, err)
	}
}
