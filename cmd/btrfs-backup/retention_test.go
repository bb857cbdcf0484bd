package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

func TestParentOfADestinationThatIsAwayIsKept(t *testing.T) {
	t.Parallel()
	source, near := newSmallPair(t)
	disk := smallFS(t)
	mountPoint := filepath.Join(t.TempDir(), "usb")
	disk.Mount(t, mountPoint)
	away := filepath.Join(mountPoint, "backups")
	folder := filepath.Join(source, "snapshot")
	first := series(t, 1, source, near, away)[0]

	btrfstest.Unmount(t, mountPoint)
	backUp(t, exitDone, march(2), "-N1", source, near)
	third := backUp(t, exitPartly, march(3), "-N1", source, near, away).Snapshot
	want(t, "snapshots", names(t, folder), first, third)
	if _, err := os.Lstat(away); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s was made although its disk is away: %v", away, err)
	}

	disk.Mount(t, mountPoint)
	r := backUp(t, exitDone, march(4), "-N1", source, near, away)
	want(t, "transfers", r.to(t, away).transfers(), third+"<"+first, r.Snapshot+"<"+third)
	want(t, "snapshots", names(t, folder), r.Snapshot)
	btrfstest.Equal(t, filepath.Join(near, r.Snapshot), filepath.Join(away, r.Snapshot), btrfstest.RootTime)
}

func TestClockThatIsWrongForAWhileLosesNothing(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"2025-03-03", "2036-03-03"} {
		t.Run(wrong, func(t *testing.T) {
			source, destination := newSmallPair(t)
			folder := filepath.Join(source, "snapshot")
			taken := series(t, 2, source, destination)

			odd := backUp(t, exitDone, clock(wrong), "-N1", "-n1", source, destination)
			want(t, "transfers", odd.to(t, destination).transfers(), odd.Snapshot+"<"+taken[1])
			for _, dir := range []string{folder, destination} {
				if !slices.Contains(names(t, dir), odd.Snapshot) {
					t.Fatalf("%s is not in %s", odd.Snapshot, dir)
				}
			}

			next := backUp(t, exitDone, march(4), source, destination)
			want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+odd.Snapshot)
			isCopy(t, source, destination, next.Snapshot)
		})
	}
}

func TestSnapshotsDatedInTheFutureAreKept(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)

	past := backUp(t, exitDone, clock("2025-03-03"), "-N1", "-n1", source, destination).Snapshot
	all := append([]string{past}, taken...)
	want(t, "snapshots", names(t, filepath.Join(source, "snapshot")), all...)
	want(t, "backups", names(t, destination), all...)
}

// resembling are names that are none of ours with the prefix "home".
var resembling = []string{
	"home20260101-1200000",
	"home20260101-12000",
	"home2026101-120000",
	"home20261301-120000",
	"home20260230-120000",
	"home20260101-250000",
	"home20260101-120000_1",
	"home20260101-120000 ",
	"home2017115-111",
	"home.20260101T1200",
	"home.20260101-120000",
	"home-20260101-120000",
	"home220260101-120000",
	"Home20260101-120000",
	"home20260101120000",
	"home20260101-12000²",
	"20260101-120000",
	"work20260101-120000",
}

func TestNamesThatResembleOursAreNeitherDeletedNorSent(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	first := series(t, 1, "-p", "home", source, destination)[0]
	for _, name := range resembling {
		btrfstest.Run(t, "btrfs", "subvolume", "snapshot", "-r", source, filepath.Join(folder, name))
		sendByHand(t, filepath.Join(folder, name), destination, "-p", filepath.Join(folder, first))
		unsent := filepath.Join(folder, name+".unsent")
		btrfstest.Run(t, "btrfs", "subvolume", "snapshot", "-r", source, unsent)
	}
	before := names(t, destination)

	r := backUp(t, exitDone, march(2), "-p", "home", "-N1", "-n1", source, destination)
	if len(r.to(t, destination).Transfers) != 1 {
		t.Fatalf("transfers: %v", r.to(t, destination).transfers())
	}
	want(t, "deleted snapshots", r.Deleted, first)
	want(t, "deleted backups", r.to(t, destination).Deleted, first)
	for _, name := range slices.Concat(resembling, []string{r.Snapshot}) {
		for _, dir := range []string{folder, destination} {
			if !slices.Contains(names(t, dir), name) {
				t.Errorf("%q is gone from %s", name, dir)
			}
		}
	}
	if got := names(t, destination); len(got) != len(before) {
		t.Errorf("backups: %q, before the run %q", got, before)
	}
}

func TestPrefixThatEndsInDigitsKeepsToItself(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	disk := series(t, 2, "-p", "disk", source, destination)
	disk1 := series(t, 2, "-p", "disk1", source, destination)
	plain := series(t, 2, source, destination)

	backUp(t, exitDone, march(9), "-S", "-N1", "-n1", "-p", "disk1", source, destination)
	left := slices.Sorted(slices.Values(slices.Concat(disk, plain, disk1[1:])))
	want(t, "snapshots", names(t, folder), left...)
	want(t, "backups", names(t, destination), left...)
}

func TestPrefixesInOneFolderDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	broken := newTap(t, "cut 200").environ()
	a1 := series(t, 1, "-p", "a-", source, destination)[0]

	r := backUp(t, exitFailed, append(broken, march(2)...), "-p", "a-", "-n1", source, destination)
	a2 := r.Snapshot
	want(t, "a's locks", ledger(t, folder)[a2].locks, destination)
	want(t, "backups", names(t, destination), a1)
	// as version 0.3.1 would have left it
	partial := filepath.Join(destination, a2)
	subvolume(t, partial)

	b := backUp(t, exitDone, march(3), "-p", "b-", "-N1", "-n1", source, destination).Snapshot
	want(t, "a's locks", ledger(t, folder)[a2].locks, destination)
	want(t, "backups", names(t, destination), a1, a2, b)

	backUp(t, exitFailed, append(broken, march(4)...), "-S", "-p", "a-", "-n1", "--clean-partial", source, destination)
	want(t, "backups", names(t, destination), a1, b)
	isCopy(t, source, destination, a1)

	r = backUp(t, exitDone, march(5), "-S", "-p", "a-", "-n1", source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), a2+"<"+a1)
	want(t, "backups", names(t, destination), a2, b)
	want(t, "a's locks", ledger(t, folder)[a2].locks)
	isCopy(t, source, destination, a2)
}

func TestBackupsOfAnotherSourceAreNeverDeleted(t *testing.T) {
	t.Parallel()
	host1, destination := newSmallPair(t)
	host2 := newSource(t, smallFS(t).Dir, "home")
	on1 := series(t, 2, host1, destination)
	var on2 []string
	for day := range 2 {
		on2 = append(on2, backUp(t, exitDone, march(day+11), "-n1", host2, destination).Snapshot)
	}
	want(t, "backups", names(t, destination), on1[0], on1[1], on2[1])

	backUp(t, exitDone, march(21), "-n1", "-S", host1, destination)
	want(t, "backups", names(t, destination), on1[1], on2[1])

	r := backUp(t, exitDone, march(22), "-n1", "-N1", host1, destination)
	want(t, "backups", names(t, destination), on2[1], r.Snapshot)
}

func TestBackupsOfAnUnknownSourceAreNeverDeleted(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	elsewhere := newSource(t, smallFS(t).Dir, "other")
	first := series(t, 1, source, destination)[0]
	const foreign = "20260101-000000"
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", "-r", elsewhere, filepath.Join(filepath.Dir(elsewhere), foreign))
	sendByHand(t, filepath.Join(filepath.Dir(elsewhere), foreign), destination)

	r := backUp(t, exitDone, march(2), "-n1", source, destination)
	want(t, "backups", names(t, destination), foreign, r.Snapshot)
	i := slices.IndexFunc(r.to(t, destination).Verdicts, func(v retention.Verdict) bool { return v.Name == foreign })
	if i < 0 || !r.to(t, destination).Verdicts[i].Keep {
		t.Fatalf("no verdict on %s: %+v", foreign, r)
	}
	want(t, "deleted", r.to(t, destination).Deleted, first)
}

func TestSourcesThatShareASnapshotFolderKeepToThemselves(t *testing.T) {
	t.Parallel()
	disk := smallFS(t).Dir
	source, other := newSource(t, disk, "home"), newSource(t, disk, "other")
	folder := filepath.Join(disk, "snapshots")
	destination := filepath.Join(smallFS(t).Dir, "backups")
	others := series(t, 2, "-f", folder, other)

	first := backUp(t, exitDone, march(3), "-f", folder, source, destination)
	want(t, "transfers", first.to(t, destination).transfers(), first.Snapshot)
	backUp(t, exitDone, march(4), "-f", folder, "-S", other, destination)
	second := backUp(t, exitDone, march(5), "-f", folder, "-N1", "-n1", source, destination)
	want(t, "snapshots", names(t, folder), append(others, second.Snapshot)...)
	want(t, "backups", names(t, destination), append(others, second.Snapshot)...)
}

func TestWhereTheRecordOfOriginsCannotBeReadBackupsAreMadeAndNoneIsDeleted(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 2, source, destination)
	record := filepath.Join(destination, ".btrfs-backup", "origins.json")
	write(t, record, "not JSON")

	r := backUp(t, exitPartly, march(3), "-N1", "-n1", source, destination)
	want(t, "backups", names(t, destination), append(taken, r.Snapshot)...)
	want(t, "snapshots", names(t, filepath.Join(source, "snapshot")), r.Snapshot)
	isCopy(t, source, destination, r.Snapshot)
	if failures := r.to(t, destination).Failures; len(failures) != 1 || !strings.Contains(failures[0].Error, record) || failures[0].Hint == "" {
		t.Fatalf("failures: %+v", failures)
	}
	if kept, err := os.ReadFile(record); err != nil || string(kept) != "not JSON" {
		t.Fatalf("the record was changed to %s, %v", kept, err)
	}
	btrfstest.Run(t, "rm", record)
	next := backUp(t, exitDone, march(4), "-n1", source, destination)
	want(t, "backups", names(t, destination), next.Snapshot)
}

func TestWhatIsInUseIsKeptWithThatVerdict(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	taken := series(t, 4, source, destination)
	btrfstest.Run(t, "btrfs", "subvolume", "set-default", filepath.Join(destination, taken[0]))
	for _, mounted := range []string{filepath.Join(destination, taken[1]), filepath.Join(folder, taken[2])} {
		at := t.TempDir()
		btrfstest.Run(t, "mount", "--bind", mounted, at)
		t.Cleanup(func() { btrfstest.Unmount(t, at) })
	}
	told := []string{destination + ": " + taken[0] + " is kept: the default subvolume", destination + ": " + taken[1] + " is kept: mounted",
		source + ": " + taken[2] + " is kept: mounted"}
	expect(t, exitDone, invoke(t, march(5), "--dry-run", "-N1", "-n1", source, destination), told...)
	r := expect(t, exitDone, invoke(t, march(5), "-N1", "-n1", source, destination), told...)
	if strings.Contains(r.stderr, "hint") {
		t.Error(r.stderr)
	}
	newest := names(t, folder)[1]
	want(t, "backups", names(t, destination), taken[0], taken[1], newest)
	want(t, "snapshots", names(t, folder), taken[2], newest)
}

func TestDryRunTellsDeletionsHoldsAndCountsAndChangesNothing(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	folder := filepath.Join(source, "snapshot")
	taken := series(t, 3, source, destination)
	subvolume(t, filepath.Join(destination, ".20260301-000000.incoming"))
	snapshotByHand(t, subvolume(t, filepath.Join(destination, "own")), filepath.Join(destination, "20260101-000000"))
	putBackupOfAnother(t, filepath.Join(destination, "20260102-000000"))
	unsent := backUp(t, exitDone, march(4), "-T", source).Snapshot
	otherDisk := smallFS(t).Dir
	fresh := filepath.Join(otherDisk, "fresh")
	before := allIn(t, source, destination, otherDisk)

	r := expect(t, exitDone, invoke(t, march(5), "--dry-run", "-N2", "-n2", source, destination, fresh))
	const next = "20260305-120000"
	for _, line := range []string{
		source + ": would take snapshot " + next,
		destination + ": would delete .20260301-000000.incoming: left unfinished by an earlier run",
		destination + ": would send " + unsent + " as an increment to " + taken[2],
		destination + ": would send " + next + " as an increment to " + unsent,
		destination + ": would keep 20260101-000000: not a received subvolume",
		destination + ": would keep 20260102-000000: not known to come from this source",
		destination + ": would delete " + taken[0] + ": older than the newest 2",
		destination + ": would delete " + taken[1] + ": older than the newest 2",
		destination + ": would delete " + taken[2] + ": older than the newest 2",
		destination + ": would keep " + next + ": newest common with the source, the newest",
		fresh + ": would send " + unsent + " as a complete copy",
		source + ": would delete " + taken[0] + ": older than the newest 2",
		source + ": would delete " + taken[2] + ": older than the newest 2",
		source + ": would keep " + next + ": ",
		destination + ": 7 backups, 4 stay, 3 go\n" + fresh + ": 2 backups, 2 stay, 0 go\n" + source + ": 5 snapshots, 2 stay, 3 go\n",
	} {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("%q is not in\n%s", line, r.stdout)
		}
	}
	if plain := "would keep " + unsent; strings.Contains(r.stdout, plain) ||
		strings.Count(invoke(t, march(5), "--dry-run", "-v", "debug", "-N2", "-n2", source, destination).stdout, plain+": number 2 of the newest 2") != 2 {
		t.Errorf("not only with -v debug: %s", r.stdout)
	}
	unchanged(t, before, source, destination, otherDisk)

	want(t, "what the real run deletes", backUp(t, exitDone, march(5), "-N2", "-n2", source, destination, fresh).Deleted, taken...)
	want(t, "snapshots", names(t, folder), unsent, next)
}

func TestSyncWaitsUntilDeletedSubvolumesAreGone(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	btrfstest.SmallFiles(t, source, 1000, 1)
	taken := series(t, 2, source, destination)

	r := backUp(t, exitDone, march(3), "-s", "-N1", "-n1", source, destination)
	want(t, "deleted snapshots", r.Deleted, taken...)
	want(t, "deleted backups", r.to(t, destination).Deleted, taken...)
	for _, dir := range []string{source, destination} {
		if left := btrfstest.Run(t, "btrfs", "subvolume", "list", "-d", dir); left != "" {
			t.Errorf("not yet gone from %s:\n%s", dir, left)
		}
	}
}

func TestConvertRWDeletesReceivedSubvolumes(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	series(t, 3, source, destination)

	r := backUp(t, exitDone, march(4), "-w", "-N1", "-n1", source, destination)
	want(t, "snapshots", names(t, filepath.Join(source, "snapshot")), r.Snapshot)
	want(t, "backups", names(t, destination), r.Snapshot)
}
