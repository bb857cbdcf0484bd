package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// hold begins a run that keeps its locks until the tap is opened.
func (r *rig) hold(options ...string) (tap, *background) {
	r.Helper()
	p := newTap(r, "hold 500")
	run := start(r, r.command(p.environ(), options...))
	p.pid(r)
	return p, run
}

// holder is how other runs describe the one that holds the lock.
func holder(run *background) string {
	return fmt.Sprintf("process %d (btrfs-backup ", run.cmd.Process.Pid)
}

func TestSecondRunWaitsForTheFirstOrFailsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	held, first := r.hold()

	expect(t, exitBusy, r.run(nil, "--no-wait"), "btrfs-backup: error: ", " is in use by "+holder(first), "btrfs-backup: hint: ")
	first.isRunning()
	second := start(t, r.command(nil))
	second.says("waiting for " + holder(first))
	first.isRunning()

	held.open(t)
	expect(t, exitDone, first.wait())
	expect(t, exitDone, second.wait())
	if all := r.snapshots(); len(all) != 3 {
		t.Errorf("the snapshots are %v, want one more for each of the two runs", all)
	}
	r.holdsOnly(r.snapshots())
}

func TestSourcesTakeTurnsAtOneDestination(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := filepath.Join(r.sourceFS.Dir, "other")
	btrfstest.Run(t, "btrfs", "subvolume", "create", other)
	btrfstest.SmallFiles(t, other, 20, 2)
	shared := filepath.Join(r.destinationFS.Dir, "shared")

	r.destination = shared
	held, first := r.hold("-p", "a-")
	expect(t, exitBusy, r.runTo(nil, "--no-wait", "-p", "b-", other, shared), shared+" is in use by "+holder(first))
	second := start(t, r.commandTo(nil, "-p", "b-", other, shared))
	second.says(shared + ": waiting for " + holder(first))
	first.isRunning()
	held.open(t)
	expect(t, exitDone, first.wait())
	expect(t, exitDone, second.wait())

	backups := names(t, shared)
	if len(backups) != 3 { // the run that did not wait left a snapshot to be sent by the one that did
		t.Fatalf("the backups are %v, want one of a- and two of b-", backups)
	}
	isCopy(t, r.source, shared, backups[0])
	isCopy(t, other, shared, backups[1])
	isCopy(t, other, shared, backups[2])
}

func TestRunsWithEachOthersFoldersBothEnd(t *testing.T) {
	t.Parallel()
	disks := []string{smallFS(t).Dir, smallFS(t).Dir}
	sources := []string{newSource(t, disks[0], "home"), newSource(t, disks[1], "home")}
	folders := []string{makeDir(t, filepath.Join(disks[0], "folder")), makeDir(t, filepath.Join(disks[1], "folder"))}
	for round := range 4 {
		prefix := fmt.Sprintf("%d-", round)
		begin := func(i int) *background {
			cmd := exec.Command("btrfs-backup", "-f", folders[i], "-p", fmt.Sprint(prefix, i, "-"), sources[i], folders[1-i])
			return start(t, cmd)
		}
		one, other := begin(0), begin(1)
		expect(t, exitDone, one.wait())
		expect(t, exitDone, other.wait())
	}
	for i, folder := range folders {
		if got := names(t, folder); len(got) < 8 {
			t.Errorf("%s holds %v, want 4 snapshots of %s and 4 of the other", folder, got, sources[i])
		}
	}
}

func TestRunsInOneSecondMakeSnapshotsWithDistinctNames(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	clock := []string{testOnlyNow + "=2026-02-03T04:05:06Z"}
	expect(t, exitDone, r.run(clock))
	r.change()
	expect(t, exitDone, r.run(clock), "exists already, waiting for the next second")
	if all := r.snapshots(); len(all) != 3 || all[1] == all[2] {
		t.Fatalf("the snapshots are %v", all)
	}
	r.holdsOnly(r.snapshots())
}
