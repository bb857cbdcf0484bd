package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// alter makes a read-only subvolume writable as programs do that leave its received UUID as it is, and read-only again.
func alter(t testing.TB, path string, change func()) {
	t.Helper()
	dir := btrfstest.Open(t, filepath.Dir(path))
	btrfstest.Check(t, btrfs.SetReadOnly(dir, filepath.Base(path), false))
	change()
	btrfstest.Check(t, btrfs.SetReadOnly(dir, filepath.Base(path), true))
	btrfstest.Run(t, "sync", "-f", path)
}

func TestABackupThatWasAlteredIsNoParentAndNoBackup(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)
	altered := filepath.Join(destination, taken[1])
	alter(t, altered, func() { write(t, filepath.Join(altered, "file"), "forged") })

	if l := listedOf(t, destination); !l[taken[1]].Altered || l[taken[1]].Complete || l[taken[0]].Altered {
		t.Errorf("listed: %+v", l)
	}
	expect(t, exitDone, invoke(t, nil, "list", destination), "altered since\n")

	write(t, filepath.Join(source, "file"), "new")
	dry := expect(t, exitDone, invoke(t, march(3), "--dry-run", "-n", "2", source, destination), `"20260302-120000" not saved: the name is taken`)
	if !strings.Contains(dry.stdout+dry.stderr, "as an increment to "+taken[0]) {
		t.Errorf("dry run:\n%s%s", dry.stdout, dry.stderr)
	}
	r := backUp(t, exitDone, march(3), "-n", "1", source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+taken[0])
	isCopy(t, source, destination, r.Snapshot)
	want(t, "backups", names(t, destination), taken[1], r.Snapshot) // what was altered is its owner's
}

func TestABackupThatLostItsReceivedUUIDIsToldByEveryCommand(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)
	altered := filepath.Join(destination, taken[0])
	btrfstest.Run(t, "btrfs", "property", "set", "-f", altered, "ro", "false")
	write(t, filepath.Join(altered, "file"), "forged")
	btrfstest.Run(t, "btrfs", "property", "set", altered, "ro", "true")

	if l := listedOf(t, destination)[taken[0]]; !l.Altered || l.Complete || l.Kind != inventory.Backup {
		t.Errorf("listed: %+v", l)
	}
	expect(t, exitDiffer, invoke(t, nil, "verify", altered), "altered")
	expect(t, exitDiffer, invoke(t, nil, "verify", "--all", destination), "altered")
	restored := filepath.Join(filepath.Dir(source), "restored")
	expect(t, exitFailed, invoke(t, nil, "restore", altered, restored), "was altered since it was received")
	if _, err := os.Lstat(restored); err == nil {
		t.Error("it was restored")
	}
}

func TestAnAlteredBackupOfTheNewestVersionIsAFailure(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 1, source, destination)
	altered := filepath.Join(destination, taken[0])
	alter(t, altered, func() { btrfstest.Check(t, os.Remove(filepath.Join(altered, "file"))) })
	for _, option := range []string{"--dry-run", "--no-wait"} {
		expect(t, exitFailed, invoke(t, march(2), "-S", option, source, destination), "its name is taken there", "move it away or rename it")
	}
	btrfstest.Check(t, os.Rename(altered, altered+"-altered"))
	backUp(t, exitDone, march(2), "-S", source, destination)
	isCopy(t, source, destination, taken[0])
}

func TestAManifestIsMadeWithEachBackupIfThatIsWanted(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	r := backUp(t, exitDone, march(1), "--manifest", source, destination)
	expect(t, exitDone, invoke(t, nil, "verify", filepath.Join(destination, r.Snapshot)), "read: no differences")
	expect(t, exitDone, invoke(t, nil, "verify", "--export", filepath.Join(destination, r.Snapshot)), "  ./file\n")
	manifests := filepath.Join(destination, ".btrfs-backup/manifests")
	btrfstest.Check(t, os.RemoveAll(manifests))
	write(t, manifests, "in the way")
	write(t, filepath.Join(source, "file"), "new")
	expect(t, exitPartly, invoke(t, march(2), "--manifest", source, destination), "making the manifest of", "the backup is complete")
	isCopy(t, source, destination, "20260302-120000")
}

func TestABackupThatIsRelinkedIsAParentAgain(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 1, source, destination)[0]
	backup, snapshot := filepath.Join(destination, taken), filepath.Join(source, "snapshot", taken)
	btrfstest.Run(t, "btrfs", "property", "set", "-f", "-ts", backup, "ro", "false")
	btrfstest.Check(t, os.Chmod(filepath.Join(backup, "file"), 0o600))
	btrfstest.Run(t, "btrfs", "property", "set", "-ts", backup, "ro", "true")
	expect(t, exitDiffer, invoke(t, nil, "relink", backup, "--to", snapshot), "mode         file (is 0600, was 0644)", "nothing was changed")

	alter(t, backup, func() { btrfstest.Check(t, os.Chmod(filepath.Join(backup, "file"), 0o644)) })
	expect(t, exitDone, invoke(t, nil, "relink", "--dry-run", backup, "--to", snapshot), "it would get the Received UUID")
	expect(t, exitDone, invoke(t, nil, "relink", backup, "--to", snapshot), "it is a copy of "+snapshot+" again")
	expect(t, exitDone, invoke(t, nil, "relink", "--json", backup, "--to", snapshot), `"linked_before": true`)
	write(t, filepath.Join(source, "file"), "new")
	r := backUp(t, exitDone, march(2), source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+taken)
	isCopy(t, source, destination, r.Snapshot)
}

func TestABackupOnAnotherMachineIsComparedAndRelinked(t *testing.T) {
	t.Parallel()
	far := newRemote(t, sshtest.Options{})
	source, destination := newSmallPair(t)
	write(t, filepath.Join(source, "large"), strings.Repeat("large ", 100_000))
	taken := series(t, 1, source, destination)[0]
	backup, snapshot := filepath.Join(destination, taken), filepath.Join(source, "snapshot", taken)
	against := far.arguments("verify", far.place(destination)+"/.latest", "--against", snapshot)
	expect(t, exitDone, invoke(t, nil, against...), far.place(backup), "compared with "+snapshot+": no differences")

	btrfstest.Run(t, "btrfs", "property", "set", "-f", "-ts", backup, "ro", "false")
	btrfstest.Check(t, os.Chmod(filepath.Join(backup, "file"), 0o600))
	btrfstest.Run(t, "btrfs", "property", "set", "-ts", backup, "ro", "true")
	against = far.arguments("verify", far.place(backup), "--against", snapshot)
	expect(t, exitDiffer, invoke(t, nil, against...), "mode         file (is 0600, was 0644)", "DIFFERS: 1 mode")
	for _, sides := range [][2]string{{far.place(backup), snapshot}, {backup, far.place(snapshot)}} {
		expect(t, exitDiffer, invoke(t, nil, far.arguments("relink", sides[0], "--to", sides[1])...), "mode         file (is 0600, was 0644)", "nothing was changed")
	}
	alter(t, backup, func() { btrfstest.Check(t, os.Chmod(filepath.Join(backup, "file"), 0o644)) })
	expect(t, exitDone, invoke(t, nil, far.arguments("relink", far.place(backup), "--to", snapshot)...), "it is a copy of "+snapshot+" again")
	expect(t, exitDone, invoke(t, nil, far.arguments("relink", "--json", backup, "--to", far.place(snapshot))...), `"linked_before": true`)
	write(t, filepath.Join(source, "file"), "new")
	r := backUp(t, exitDone, march(2), source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+taken)
}

func TestASnapshotThatWasAlteredIsNoParentOfWhatWasSentBefore(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	write(t, filepath.Join(source, "secret"), "secret")
	taken := series(t, 2, source, destination)
	for _, name := range taken {
		altered := filepath.Join(source, "snapshot", name)
		alter(t, altered, func() { btrfstest.Check(t, os.Remove(filepath.Join(altered, "secret"))) })
	}
	btrfstest.Check(t, os.Remove(filepath.Join(source, "secret")))
	r := backUp(t, exitDone, march(3), "-N", "1", source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot)
	isCopy(t, source, destination, r.Snapshot)
	want(t, "snapshots", names(t, filepath.Join(source, "snapshot")), append(taken, r.Snapshot)...)
}

func TestDeduplicationAndCompressionLeaveTheIncrements(t *testing.T) {
	t.Parallel()
	// where reading writes the times of a root directory, the time at which the backup got its name is written, too
	source, destination := newSource(t, smallFS(t).Dir, "home"), filepath.Join(smallFS(t, "noatime").Dir, "backups")
	content := strings.Repeat("compressible ", 20_000)
	write(t, filepath.Join(source, "a"), content)
	write(t, filepath.Join(source, "b"), content)
	taken := series(t, 1, source, destination)
	for _, dir := range []string{filepath.Join(source, "snapshot", taken[0]), filepath.Join(destination, taken[0])} {
		alter(t, dir, func() {
			_, err := reflink.Share(t.Context(), btrfstest.Open(t, dir+"/a"), btrfstest.Open(t, dir+"/b"), int64(len(content)))
			btrfstest.Check(t, err)
			btrfstest.Run(t, "btrfs", "filesystem", "defragment", "-r", "-czstd", dir)
		})
	}
	r := backUp(t, exitDone, march(2), source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+taken[0])
}

func TestASourceThatWasReceivedIsSavedEachTime(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 1, source, destination)[0]
	top := smallFS(t).Dir
	btrfstest.Run(t, "sh", "-c", `btrfs send -q "$1" | btrfs receive -q "$2"`, "sh", filepath.Join(destination, taken), top)
	home := filepath.Join(top, taken)
	btrfstest.Check(t, btrfs.SetReadOnly(btrfstest.Open(t, top), taken, false))
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", "-r", home, filepath.Join(makeDir(t, home+"/snapshot"), "20260301-120000")) // by an earlier version

	const told = "its received UUID is cleared"
	for day := range 3 {
		write(t, filepath.Join(home, "file"), string(rune('a'+day)))
		r := invoke(t, march(2+day), "-N", "2", home, destination+"/of home")
		expect(t, exitDone, r)
		if strings.Contains(r.stderr, told) != (day == 0) {
			t.Errorf("day %d:\n%s", day, r.stderr)
		}
	}
	of := destination + "/of home"
	for _, name := range names(t, filepath.Join(home, "snapshot")) {
		isCopy(t, home, of, name)
	}
	want(t, "backups", names(t, of), "20260301-120000", "20260302-120000", "20260303-120000", "20260304-120000")
}

func TestWhatWasAlteredSinceItWasReceivedIsNotSentOn(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 3, source, destination)
	further := filepath.Join(smallFS(t).Dir, "further")
	sendOn := []string{"-S", "-f", destination, filepath.Join(destination, taken[2]), further}
	damage := func(name string) {
		altered := filepath.Join(destination, name)
		alter(t, altered, func() { write(t, filepath.Join(altered, "file"), "forged") })
	}
	damage(taken[1])
	expect(t, exitDone, invoke(t, march(4), sendOn...), "\""+taken[1]+"\" not sent")
	want(t, "backups", names(t, further), taken[0], taken[2])
	isCopy(t, source, further, taken[2])
	damage(taken[2])
	for _, more := range []string{"--dry-run", "--no-wait"} {
		expect(t, exitFailed, invoke(t, march(5), append([]string{more}, sendOn...)...), "not sent: altered since it was received", "a source of its own")
	}
}
