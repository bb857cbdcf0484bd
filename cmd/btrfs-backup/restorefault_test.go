package main

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/transport/sshtest"
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
	l := newBareLink(t, sshtest.Options{})
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
		run := start(t, prepare(march(2), append([]string{"restore", "--rate-limit", "4M"}, args...)...))
		within(func() bool {
			run.isRunning()
			large, _ := filepath.Glob(disk + "/*/snapshot/.*.incoming/large")
			more, _ := filepath.Glob(disk + "/.*.restoring/.*.incoming/large")
			return len(large)+len(more) > 0
		})
		f, err := os.Create(ballast)
		btrfstest.Check(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 1<<20))
		}
		btrfstest.Check(t, f.Close())
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
