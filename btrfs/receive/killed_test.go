package receive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"

	"golang.org/x/sys/unix"
)

// What a process of this test's own program is to receive, and behind which byte of the stream it is killed.
const killedDir, killedStream, killedAt = "BTRFS_BACKUP_TEST_KILLED_DIR", "BTRFS_BACKUP_TEST_KILLED_STREAM", "BTRFS_BACKUP_TEST_KILLED_AT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		receiveUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func receiveUntilKilled(path string) {
	dir, err := os.Open(path)
	stream, openErr := os.Open(os.Getenv(killedStream))
	at, parseErr := strconv.ParseInt(os.Getenv(killedAt), 10, 64)
	if errors.Join(err, openErr, parseErr) == nil {
		_, err = receive.Stream(context.Background(), dir, io.MultiReader(io.LimitReader(stream, at), killer{}), receive.Options{Name: "killed"})
	}
	_, _ = os.Stderr.WriteString("not killed: " + errors.Join(err, openErr, parseErr).Error())
	os.Exit(1)
}

// killer kills the process that reads it.
type killer struct{}

func (killer) Read([]byte) (int, error) {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// commandEnds gives where each command of a stream ends, in bytes.
func commandEnds(stream []byte) (ends []int) {
	const header, command = 17, 10 // linux/fs/btrfs/send.h: struct btrfs_stream_header, struct btrfs_cmd_header
	for at := header; at < len(stream); {
		at += command + int(binary.LittleEndian.Uint32(stream[at:]))
		ends = append(ends, at)
	}
	return ends
}

func TestAReceiverThatIsKilledAnywhereLeavesNoBackup(t *testing.T) { killAt(t, 29) }

func TestAReceiverThatIsKilledAtEachCommandLeavesNoBackup(t *testing.T) {
	btrfstest.OnlyInAll(t)
	killAt(t, 1)
}

// killAt kills a receiver behind every so many commands, and receives again.
func killAt(t *testing.T, every int) {
	r := newRig(t)
	btrfstest.Populate(t, r.data(), 1)
	parent := r.snapshot(t, "parent")
	r.receive(t, send(t, parent), receive.Options{})
	btrfstest.Change(t, r.data(), 2)
	child := r.snapshot(t, "child")
	stream, err := io.ReadAll(send(t, "--proto", "2", "-p", parent, child))
	check(t, err)
	whole, err := io.ReadAll(send(t, "--proto", "2", child))
	check(t, err)
	for kind, stream := range map[string][]byte{"increment": stream, "complete": whole} {
		file := filepath.Join(t.TempDir(), "stream")
		check(t, os.WriteFile(file, stream, 0o600))
		ends := commandEnds(stream)
		t.Logf("%s: %d commands", kind, len(ends))
		for n := 0; n < len(ends); n += every {
			receiver := exec.Command("/proc/self/exe")
			receiver.Env = append(os.Environ(), killedDir+"="+r.backups.Dir, killedStream+"="+file, killedAt+"="+strconv.Itoa(ends[n]))
			said, err := receiver.CombinedOutput()
			if state := receiver.ProcessState; state == nil || state.Sys().(interface{ Signaled() bool }).Signaled() == false {
				t.Fatalf("%s, behind command %d: %v: %s", kind, n+1, err, said)
			}
			left, err := btrfs.InfoAt(open(t, r.backups.Dir), "killed")
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			check(t, err)
			if left.ReadOnly || left.Received() {
				t.Fatalf("%s, behind command %d: it looks complete: %+v", kind, n+1, left)
			}
			check(t, btrfs.Delete(open(t, r.backups.Dir), "killed"))
		}
		r.receive(t, bytes.NewReader(stream), receive.Options{Name: kind})
		btrfstest.Equal(t, child, filepath.Join(r.backups.Dir, kind))
	}
}
