package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

const beganAgain = "the kernel was interrupted while it sent, and began again"

func TestSuspendedRunGivesACompleteBackup(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]string{"data in the stream": {withData}, "data copied": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			const tries = 5 // a kernel that is not at sending when it is stopped does not begin again
			for range tries {
				r.write("large", 8<<20)
				r.describe(200)
				held := newTap(t, "hold 2000000")
				run := start(t, r.command(held.environ(), options...))
				held.pid(t)
				for range 3 {
					suspend(t, run.cmd.Process.Pid)
				}
				held.open(t)
				ended := expect(t, exitDone, run.wait())
				r.isSaved(r.destination)
				if strings.Contains(ended.stderr, beganAgain) {
					return
				}
			}
			t.Fatalf("of %d suspended runs none began to send again", tries)
		})
	}
}

// describe gives so many files an attribute that is as large as it can be, nearly.
func (r *rig) describe(files int) {
	r.Helper()
	value := bytes.Repeat([]byte{byte(r.past.runs)}, 15_000)
	for i := range files {
		path := filepath.Join(r.source, fmt.Sprintf("described%d", i))
		btrfstest.Check(r, os.WriteFile(path, nil, 0o644))
		btrfstest.Check(r, syscall.Setxattr(path, "user.description", value, 0))
	}
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

// otherStream gives a file with the stream of a snapshot that differs from the next one by the content of a file only, so that the
// commands of both streams begin at the same places.
func (r *rig) otherStream() string {
	r.Helper()
	const name = "another-one-now" // as long as a time
	folder := filepath.Join(r.source, "snapshot")
	btrfstest.Run(r, "btrfs", "subvolume", "snapshot", "-r", r.source, filepath.Join(folder, name))
	file := filepath.Join(r.TempDir(), "stream")
	btrfstest.Run(r, "btrfs", "send", "-q", "--proto", "2", "--no-data", "-p", filepath.Join(folder, r.newest()), "-f", file, filepath.Join(folder, name))
	r.change()
	return file
}

// The first command of the output names the right snapshot, so nothing but the comparison with what was repeated can tell.
func TestRestartWithAnotherStreamIsNeverABackup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := names(t, r.destination)
	streams := newTap(t, "other", r.otherStream())
	expect(t, exitFailed, r.run(streams.environ()), "sending once more from the start", "restarted send stream differs from what was sent before")
	streams.passed(t, 2)
	r.holdsOnly(before)
}

func TestRestartWithAnotherStreamIsSavedBySendingAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	streams := newTapForOne(t, "other", r.otherStream())
	expect(t, exitDone, r.run(streams.environ()), "restarted send stream differs", "sending once more from the start")
	streams.passed(t, 2)
	r.isSaved(r.destination)
}

func TestRestartWithTheSameStreamIsPickedUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	streams := newTap(t, "again")
	expect(t, exitDone, r.run(streams.environ()), beganAgain)
	streams.passed(t, 1)
	r.isSaved(r.destination)
}
