package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
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
		noProcess(t, r.sourceFS.Dir)
		noProcess(t, r.destinationFS.Dir)
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
	s := newShim(t, "", heldAfter(100_000))
	run := start(t, r.command(s.environ()))
	r.receivesPart()
	run.signal(syscall.SIGKILL)
	run.wait()
	onlyCompleteBackups(t, r.source, r.destination)
	if len(unfinished(t, r.destination)) == 0 {
		t.Fatal("the kill left nothing unfinished: it came too late")
	}
	s.open(t)
	noProcess(t, r.sourceFS.Dir)
	noProcess(t, r.destinationFS.Dir)
	r.heals()
}

// receivesPart waits until a part of the newest snapshot is received.
func (r *rig) receivesPart() {
	r.Helper()
	incoming := func() string { return filepath.Join(r.destination, btrfs.Incoming(r.newest()), "data") }
	eventually(r, func() bool { return exists(incoming()) }, func() string { return incoming() + " does not appear" })
}

// A program that reads and writes nothing does not notice that its peer is gone.
func TestKilledRunTakesItsProgramsWithIt(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"send", "receive"} {
		t.Run(command, func(t *testing.T) {
			r := newRig(t)
			const hang = `echo $$ >"$dir/pid"; exec sleep 1000`
			scripts := map[string]string{command: hang}
			s := newShim(t, scripts["send"], scripts["receive"])
			run := start(t, r.command(s.environ()))
			pid := s.pid(t)
			run.signal(syscall.SIGKILL)
			run.wait()
			gone := func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }
			if !within(gone) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Fatalf("btrfs %s outlives the run that started it", command)
			}
			r.heals()
		})
	}
}

// childKill is a way for btrfs send or receive to die.
type childKill struct{ name, command, script string }

const intoFile = `"$real" "$@" >"$dir/stream"; size=$(stat -c %s "$dir/stream"); `

var childKills = []childKill{
	{"before its first byte", "send", `kill -9 $$`},
	{"after its first bytes", "send", `"$real" "$@" | head -c 1000; kill -9 $$`},
	{"in the middle", "send", intoFile + `head -c $((size / 2)) "$dir/stream"; kill -9 $$`},
	{"before its last bytes", "send", intoFile + `head -c $((size - 10)) "$dir/stream"; kill -9 $$`},
	{"after its last byte", "send", `"$real" "$@"; kill -9 $$`},
	{"before its first byte", "receive", `kill -9 $$`},
	{"after its first bytes", "receive", `head -c 1000 >/dev/null; kill -9 $$`},
	{"in the middle", "receive", `head -c 150000 | "$real" "$@"; kill -9 $$`},
	{"after its last byte", "receive", `"$real" "$@"; kill -9 $$`},
}

func TestKilledChildFailsTheTransferAndHeals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, kill := range childKills {
		t.Run(kill.command+" "+kill.name, func(t *testing.T) {
			r := r.in(t)
			scripts := map[string]string{kill.command: kill.script}
			s := newShim(t, scripts["send"], scripts["receive"])
			r.change()
			before := names(t, r.destination)
			failed := r.run(s.environ())
			expect(t, exitFailed, failed, fmt.Sprintf("btrfs-backup: error: sending %s to %s: btrfs %s: signal: killed",
				r.newest(), r.destination, kill.command))
			calls := map[string]int{"send": 2, "receive": 1}[kill.command] // a killed sender gets a second attempt
			s.wasCalled(t, "send", calls)
			r.holdsOnly(before)
			r.heals()
		})
	}
}

func TestMessageOfFailedChildIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const strike = `echo "ERROR: on strike" >&2; exit 1`
	for _, command := range []string{"send", "receive"} {
		t.Run(command, func(t *testing.T) {
			r := r.in(t)
			scripts := map[string]string{command: strike}
			s := newShim(t, scripts["send"], scripts["receive"])
			before := names(t, r.destination)
			failed := r.run(s.environ())
			expect(t, exitFailed, failed, fmt.Sprintf("btrfs-backup: error: sending %s to %s: btrfs %s: on strike",
				r.newest(), r.destination, command))
			r.holdsOnly(before)
		})
	}
	r.heals()
}
