package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestKilledAtAnyStepLeavesOnlyCompleteBackupsAndHeals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	retention := []string{"-N", "3", "-n", "2"}
	for range 2 { // from here on each run has something to delete
		r.change()
		r.heals(retention...)
	}
	isKilledAtEachStep(t, func(at string) result {
		r.change()
		leftover := filepath.Join(r.destination, btrfs.Incoming("20200101-000000"))
		btrfstest.Run(t, "btrfs", "subvolume", "create", leftover)
		killed := r.run([]string{testOnlyKillAt + "=" + at}, retention...)
		onlyCompleteBackups(t, r.source, r.destination)
		r.ledger()
		return killed
	}, func() {
		r.change()
		r.heals(retention...)
	}, "snapshot taken", "receive begun", "received", "synced", "renamed", "committed", "file replaced", "link replaced", "subvolume deleted")
}

// isKilledAtEachStep kills a run at its first step, then at its second, until it comes to its end. Each time it is healed. The
// steps of these names must be among them.
func isKilledAtEachStep(t testing.TB, run func(at string) result, heal func(), names ...string) {
	t.Helper()
	var steps []string
	for at := 1; ; at++ {
		killed := run(strconv.Itoa(at))
		if killed.status == exitDone {
			break
		}
		step := killed.step()
		if step == "" {
			t.Fatalf("exit status %d, not killed at step %d:\n%s", killed.status, at, killed.stderr)
		}
		steps = append(steps, step)
		heal()
	}
	for _, name := range names {
		if !slices.Contains(steps, name) {
			t.Errorf("not killed at %q, but at %q", name, steps)
		}
	}
}

func TestKilledInMidStreamLeavesOnlyCompleteBackupsAndHeals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	held := newTap(t, "hold 500")
	run := start(t, r.command(held.environ()))
	r.receivesPart()
	run.signal(syscall.SIGKILL)
	run.wait()
	onlyCompleteBackups(t, r.source, r.destination)
	if len(unfinished(t, r.destination)) == 0 {
		t.Fatal("the kill left nothing unfinished: it came too late")
	}
	r.heals()
}

// receivesPart waits until a part of the newest snapshot is received.
func (r *rig) receivesPart() {
	r.Helper()
	incoming := func() string { return filepath.Join(r.destination, btrfs.Incoming(r.newest()), "data") }
	eventually(r, func() bool { return exists(incoming()) }, func() string { return incoming() + " does not appear" })
}

// A program that reads and writes nothing does not notice that its peer is gone.
func TestKilledRunTakesItsProgramWithIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := newShim(t, `echo $$ >"$dir/pid"; exec sleep 1000`)
	run := start(t, r.command(s.environ(), "--receiver", "stock"))
	pid := s.pid(t)
	run.signal(syscall.SIGKILL)
	run.wait()
	gone := func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }
	if !within(gone) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Fatal("btrfs receive outlives the run that started it")
	}
	r.heals()
}

var killsOfTheReceiver = []struct{ name, script string }{
	{"before its first byte", `kill -9 $$`},
	{"after its first bytes", `head -c 1000 >/dev/null; kill -9 $$`},
	{"in the middle", `head -c 150000 | "$real" "$@"; kill -9 $$`},
	{"after its last byte", `"$real" "$@"; kill -9 $$`},
}

func TestKilledReceiverFailsTheTransferAndHeals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, kill := range killsOfTheReceiver {
		t.Run(kill.name, func(t *testing.T) {
			r := r.in(t)
			s, streams := newShim(t, kill.script), newTap(t)
			r.change()
			before := names(t, r.destination)
			failed := r.run(append(s.environ(), streams.environ()...), "--receiver", "stock")
			expect(t, exitFailed, failed, fmt.Sprintf("btrfs-backup: error: sending %s to %s: btrfs receive: signal: killed",
				r.newest(), r.destination))
			streams.passed(t, 1)
			r.holdsOnly(before)
			r.heals()
		})
	}
}

func TestMessageOfFailedReceiverIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := newShim(t, `echo "ERROR: on strike" >&2; exit 1`)
	before := names(t, r.destination)
	failed := r.run(s.environ(), "--receiver", "stock")
	expect(t, exitFailed, failed, fmt.Sprintf("btrfs-backup: error: sending %s to %s: btrfs receive: on strike", r.newest(), r.destination))
	r.holdsOnly(before)
	r.heals()
}

func TestAFileThatCannotBeReadFailsTheTransferAndIsToldWithAHint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := names(t, r.destination)
	for _, name := range []string{"first", "second"} {
		r.write(name, 1<<20)
	}
	damaged := filepath.Join(r.source, "second")
	btrfstest.Damage(t, damaged, 1<<19)
	streams := newTap(t)
	failed := expect(t, exitFailed, r.run(streams.environ()), "btrfs-backup: error: sending ", " to "+r.destination,
		`of "second": reading the snapshot at byte 524288: input/output error`, "hint: `btrfs-backup verify` of this snapshot tells what is damaged")
	tellsOnce(t, failed)
	streams.passed(t, 1) // whatever it builds upon, the file is in it

	streams = newTap(t)
	failed = expect(t, exitFailed, r.run(streams.environ(), "-S", withData), "btrfs-backup: error: sending ",
		" to "+r.destination+": the kernel's send: input/output error", "trying a complete copy", "hint: a file of the snapshot cannot be read")
	tellsOnce(t, failed)
	streams.passed(t, 2) // an increment, and a complete copy
	r.holdsOnly(before)
	remove(t, damaged)
	expect(t, exitPartly, r.run(nil)) // the snapshot with the damage is not sent
	r.isSaved(r.destination)
}
