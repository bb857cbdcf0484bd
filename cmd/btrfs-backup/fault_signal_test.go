package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestSignalInMidTransferLeavesNothingUnfinished(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			before := names(t, r.destination)
			held := newTap(t, "hold 500")
			run := start(t, r.command(held.environ()))
			r.receivesPart()
			run.signal(signal)
			ended := expect(t, 128+int(signal), run.wait(), "btrfs-backup: hint: the next run saves what is missing\n",
				"btrfs-backup: error: ended by a signal: "+signal.String()+"; snapshot "+r.newest()+" is kept, no backup was finished\n")
			if told := strings.Count(ended.stderr, "\nbtrfs-backup: "); told != 2 || strings.Contains(ended.stderr, "FAILED") {
				t.Errorf("more than two lines tell of it:\n%s", ended.stderr)
			}
			r.holdsOnly(before)
			if kept := r.snapshots(); len(kept) != 2 {
				t.Fatalf("the snapshots are %v; one is lost", kept)
			}
			if outstanding := r.ledger()[r.newest()].Locks; len(outstanding) != 1 {
				t.Errorf("the ledger says that %v lack %s", outstanding, r.newest())
			}
			r.heals()
		})
	}
}

func TestSignalWhileWaitingForALockEndsTheRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	held := newTap(t, "hold 500")
	first := start(t, r.command(held.environ()))
	r.receivesPart()
	second := start(t, r.command(nil))
	second.says(fmt.Sprintf("waiting for process %d", first.cmd.Process.Pid))
	second.signal(syscall.SIGTERM)
	expect(t, 128+int(syscall.SIGTERM), second.wait(), "ended by a signal")
	held.open(t)
	expect(t, exitDone, first.wait())
	r.isSaved(r.destination)
}
