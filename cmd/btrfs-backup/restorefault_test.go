package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// largeBackup gives a backup with so many bytes that do not get less by compression.
func largeBackup(t testing.TB, size int64) string {
	t.Helper()
	source, destination := newLargePair(t, size)
	return filepath.Join(destination, backUp(t, exitDone, march(1), source, destination).Snapshot)
}

func TestARestoreGoesOnWhereItWasWhenTheMachineWasLost(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	const size = 12 << 20
	backup := largeBackup(t, size)
	l := newLink(t, sshtest.Options{})
	begin := func(options ...string) *background {
		args := slices.Concat([]string{"restore", "--compress", "none", "--rate-limit", "16M"}, l.options, options)
		return start(t, prepare(nil, args...))
	}
	target := func() string { return filepath.Join(btrfstest.New(t, 256<<20).Dir, "home") }
	crossed := func() int64 { return l.proxy.Up.Load() + l.proxy.Down.Load() }
	midway := func(run *background, before int64) {
		t.Helper()
		within(func() bool {
			run.isRunning()
			return crossed() > before+2*size/3
		})
	}
	is := func(run *background, target string, before int64) {
		t.Helper()
		r := expect(t, exitDone, run.wait())
		if n := crossed() - before; n > size+4<<20 || n < size { // what was in flight is sent again
			t.Errorf("%d bytes crossed for %d:\n%s", n, size, r.stderr)
		}
		btrfstest.Equal(t, backup, target, "snapshot", btrfstest.RootTime)
		want(t, "what is there", names(t, filepath.Dir(target)), "home")
	}
	for _, out := range []bool{true, false} {
		from, to, at, before, started := backup, target(), "", crossed(), time.Now()
		if at = l.place(to); !out {
			from, at = l.place(backup), to
		}
		run := begin(from, at)
		midway(run, before)
		l.proxy.Cut()
		is(run, to, before)
		if took := time.Since(started); took < 600*time.Millisecond {
			t.Errorf("12 MiB at 16 MiB a second took %v", took)
		}
	}

	before, to := crossed(), target()
	run := begin(backup, l.place(to))
	midway(run, before)
	run.signal(syscall.SIGKILL)
	run.wait()
	if exists(to) {
		t.Error("there is a target")
	}
	is(begin(backup, l.place(to)), to, before)
}

func TestARestoreToADiskThatGetsFullLeavesTheOldOneAndGoesOn(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	const size = 12 << 20
	backup := largeBackup(t, size)
	disk := btrfstest.New(t, 256<<20).Dir
	old := newSource(t, disk, "home")
	ballast := filepath.Join(disk, "ballast")
	for _, args := range [][]string{{backup, filepath.Join(disk, "new")}, {"--in-place", backup, old}} {
		target := args[len(args)-1]
		held := newTap(t, "hold 100") // when the subvolume is made
		run := start(t, prepare(append(march(2), held.environ()...), append([]string{"restore"}, args...)...))
		within(func() bool {
			run.isRunning()
			made, _ := filepath.Glob(disk + "/*/snapshot/.*.incoming")
			more, _ := filepath.Glob(disk + "/.*.restoring/.*.incoming")
			return len(made)+len(more) > 0
		})
		f, err := os.Create(ballast)
		btrfstest.Check(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 1<<20))
		}
		btrfstest.Check(t, f.Close())
		held.open(t)
		expect(t, exitFailed, run.wait(), "o space left on device", "hint: make room at "+disk+": the same command goes on")
		holds(t, filepath.Join(old, "file"), len("content of home"))
		want(t, "what is there", names(t, disk), "ballast", "home")
		if exists(filepath.Join(old, "snapshot")) {
			want(t, "snapshots", names(t, filepath.Join(old, "snapshot")))
		}
		btrfstest.Check(t, os.Remove(ballast))
		btrfstest.Run(t, "btrfs", "filesystem", "sync", disk)
		expect(t, exitDone, invoke(t, march(3), append([]string{"restore"}, args...)...))
		btrfstest.Equal(t, backup, target, "snapshot", btrfstest.RootTime)
		if target != old {
			deleteSubvolume(t, filepath.Join(target, "snapshot", filepath.Base(backup)))
			deleteSubvolume(t, target)
		}
	}
}

func TestARestoreWaitsForTheRunsOfBothSides(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := changed(t, 2, source, destination)
	for _, folder := range []string{destination, filepath.Join(source, "snapshot")} {
		held := btrfstest.Open(t, folder)
		btrfstest.Check(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
		expect(t, exitBusy, invoke(t, march(3), "restore", "--no-wait", "--in-place", filepath.Join(destination, taken[0]), source))
		btrfstest.Check(t, syscall.Flock(int(held.Fd()), syscall.LOCK_UN))
		want(t, "beside it", names(t, filepath.Dir(source)), "home")
	}
	// of an earlier restore to a new name, what is received there belongs to whoever holds it
	target := filepath.Join(smallFS(t).Dir, "home")
	held := btrfstest.Open(t, makeDir(t, filepath.Join(filepath.Dir(target), ".home.restoring")))
	btrfstest.Check(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
	expect(t, exitBusy, invoke(t, march(3), "restore", "--no-wait", filepath.Join(destination, taken[0]), target))
	btrfstest.Check(t, syscall.Flock(int(held.Fd()), syscall.LOCK_UN))
	restored(t, march(3), filepath.Join(destination, taken[0]), target)
}

func TestARollbackCarriesTheLedgerOnAndKeepsWhatDestinationsThatAreAwayNeed(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	away := filepath.Join(smallFS(t).Dir, "away")
	folder := filepath.Join(source, "snapshot")
	var taken []string
	for day := 1; day <= 4; day++ {
		write(t, filepath.Join(source, "file"), strings.Repeat("x", day))
		args := []string{source, destination, away}
		if day > 2 { // the last two are at one of them alone
			args = args[:2]
		}
		taken = append(taken, backUp(t, exitDone, march(day), args...).Snapshot)
	}
	ledger, err := os.ReadFile(filepath.Join(folder, lock.LedgerFile))
	btrfstest.Check(t, err)
	latest, latestErr := os.Readlink(filepath.Join(folder, ".latest"))
	restored(t, march(5), "--in-place", filepath.Join(destination, taken[0]), source)
	if now, err := os.ReadFile(filepath.Join(folder, lock.LedgerFile)); err != nil || string(now) != string(ledger) {
		t.Errorf("ledger\n%s, was\n%s, %v", now, ledger, err)
	}
	if now, err := os.Readlink(filepath.Join(folder, ".latest")); now != latest || (err == nil) != (latestErr == nil) {
		t.Errorf(".latest leads to %q, %v, and led to %q, %v", now, err, latest, latestErr)
	}
	write(t, filepath.Join(source, "file"), "changed")
	next := backUp(t, exitDone, march(6), "-N", "1", source, destination)
	want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[3])
	want(t, "snapshots", names(t, folder), taken[1], next.Snapshot)
}
