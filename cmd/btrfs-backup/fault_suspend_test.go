package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"btrfs-backup/btrfs/btrfstest"
)

const beganAgain = "btrfs send was suspended and began again"

func TestSuspendedSendGivesACompleteBackup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const tries = 5 // a sender that is not stopped in the kernel does not begin again
	for range tries {
		r.write("large", 8<<20)
		s := newShim(t, "", heldAfter(2<<20))
		run := start(t, r.command(s.environ()))
		r.receivesPart()
		sender := theProgram(t, r.sourceFS.Dir)
		for range 3 {
			suspend(t, sender)
		}
		s.open(t)
		ended := expect(t, exitDone, run.wait())
		r.isSaved(r.destination)
		if strings.Contains(ended.stderr, beganAgain) {
			return
		}
	}
	t.Fatalf("of %d suspended senders none began again", tries)
}

// suspend stops a process for a moment.
func suspend(t testing.TB, pid int) {
	t.Helper()
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// otherSnapshot makes a snapshot that differs from the next one by the content of a file only, so that the commands of both
// streams begin at the same places.
func (r *rig) otherSnapshot() string {
	r.Helper()
	const name = "another-one-now" // as long as a time
	path := filepath.Join(r.source, "snapshot", name)
	btrfstest.Run(r, "btrfs", "subvolume", "snapshot", "-r", r.source, path)
	r.change()
	return path
}

// The first command of the output names the right snapshot, so nothing but the comparison with what was repeated can tell.
const sendWithAnotherBehind = `
for snapshot; do :; done
"$real" "$@" >"$dir/stream"; size=$(stat -c %s "$dir/stream")
set -- "$@" "$(dirname "$snapshot")/another-one-now"
"$real" $(echo "$*" | sed "s|$snapshot ||") >"$dir/other"
test "$(stat -c %s "$dir/other")" = "$size" || exit 9
head -c $((size * 3 / 4)) "$dir/stream"; cat "$dir/other"; exit`

func TestRestartWithAnotherStreamIsNeverABackup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := names(t, r.destination)
	r.otherSnapshot()
	s := newShim(t, sendWithAnotherBehind, "")
	expect(t, exitFailed, r.run(s.environ()), "sending once more from the start", "restarted send stream differs from what was sent before")
	s.wasCalled(t, "send", 2)
	r.holdsOnly(before)
}

func TestRestartWithAnotherStreamIsSavedBySendingAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.otherSnapshot()
	s := newShim(t, `if test $call = 1; then `+sendWithAnotherBehind+`; fi`, "")
	expect(t, exitDone, r.run(s.environ()), "restarted send stream differs", "sending once more from the start")
	s.wasCalled(t, "send", 2)
	r.isSaved(r.destination)
}

func TestRestartWithTheSameStreamIsPickedUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := newShim(t, intoFile+`head -c $((size * 3 / 4)) "$dir/stream"; `+sendFile, "")
	expect(t, exitDone, r.run(s.environ()), beganAgain)
	s.wasCalled(t, "send", 1)
	r.isSaved(r.destination)
}
