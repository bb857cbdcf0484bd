package main

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// alert are options with which silence is noticed soon.
var alert = []string{"--ssh-opt", "ServerAliveInterval=1", "--ssh-opt", "ServerAliveCountMax=2", "--ssh-opt", "ConnectTimeout=60"}

func TestRemoteThatFallsSilentIsNoticedAndResumed(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	before := f.far.proxy.Up.Load()
	run := f.midway(alert...)
	f.far.proxy.Stall(true)
	run.says("connecting again")
	f.far.proxy.Stall(false)
	f.resumed(expect(t, exitDone, run.wait()), before)
	f.isSavedFar()
	f.far.noSession(t)
}

// share makes two files of the newest snapshot share their place on the disk.
func (f *farRig) share() {
	f.Helper()
	share(f, filepath.Join(f.source, "snapshot", f.newest()), "twin-a", "twin-b", twinSize)
}

// share makes two files of a snapshot share their place on the disk, as programs that look for duplicates do.
func share(t testing.TB, snapshot, one, other string, size int) {
	t.Helper()
	a, b := btrfstest.Open(t, filepath.Join(snapshot, one)), btrfstest.Open(t, filepath.Join(snapshot, other))
	order := unix.FileDedupeRange{Src_length: uint64(size), Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(b.Fd())}}}
	btrfstest.Check(t, unix.IoctlFileDedupeRange(int(a.Fd()), &order))
	if shared := order.Info[0]; shared.Status != 0 || shared.Bytes_deduped != uint64(size) {
		t.Fatalf("not shared: %+v", shared)
	}
	btrfstest.Check(t, errors.Join(a.Close(), b.Close()))
	btrfstest.Run(t, "sync", "-f", snapshot) // the snapshot's generation is on disk only then
}

const twinSize = 1 << 20

// The kernel lets the blocks of a read-only snapshot be shared, which changes its stream.
func TestRemoteTransferWhoseStreamHasChangedBeginsAnew(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	f.write("twin-a", twinSize)
	btrfstest.Run(t, "cp", "--reflink=never", filepath.Join(f.source, "twin-a"), filepath.Join(f.source, "twin-b"))
	before := f.far.proxy.Up.Load()
	run := f.midway()
	run.signal(syscall.SIGKILL)
	run.wait()
	f.share()
	healed := f.healsFar("-S", "--json")
	for _, text := range []string{" resumes after the ", "the stream is not the one that was begun", "sending once more from the start"} {
		if !strings.Contains(healed.stderr, text) {
			t.Errorf("%q is not in the output:\n%s", text, healed.stderr)
		}
	}
	if sent := sentTo(t, healed, f.url)[0]; sent.Bytes < transferSize || f.far.proxy.Up.Load()-before < transferSize*4/3 {
		t.Errorf("not all was sent again: %+v, %d bytes crossed", sent, f.far.proxy.Up.Load()-before)
	}
}

// pull prepares a run in the opposite direction: the source lies on the other machine, the destination on this one.
func (f *farRig) pull(options ...string) (run *background, destination string) {
	f.Helper()
	destination = filepath.Join(btrfstest.New(f, rigSize).Dir, "pulled")
	args := append(append(options, f.far.options...), f.far.place(f.source), destination)
	return start(f, f.commandTo(nil, args...)), destination
}

func TestRemoteSourceThatIsKilledInMidTransferIsResumed(t *testing.T) {
	t.Parallel()
	slow := newTap(t, "hold 7000000")
	f := newFarRig(t, sshtest.Options{Env: slow.environ()})
	f.write("large", transferSize)
	before := f.far.proxy.Down.Load()
	run, destination := f.pull("--compress", "none", "-n", "1")
	eventually(t, func() bool { return f.far.proxy.Down.Load() > before+6_000_000 }, run.said)
	kill(t, slow.pid(t))
	slow.open(t)
	expect(t, exitDone, run.wait(), "connecting again")
	f.isSaved(destination)
	if crossed := f.far.proxy.Down.Load() - before; crossed > transferSize+8<<20 {
		t.Errorf("%d bytes crossed for a stream of %d", crossed, transferSize)
	}
	f.far.noSession(t)
}

func TestRemoteSourceThatIsKilledEachTimeFailsTheTransfer(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{Env: newTap(t, "kill").environ()})
	run, destination := f.pull("-n", "1")
	expect(t, exitFailed, run.wait(), "btrfs-backup: error: sending "+f.newest()+" to "+destination)
	f.holdsOnly(names(t, f.destination))
	if left := names(t, destination); len(left) > 0 {
		t.Errorf("left in %s: %v", destination, left)
	}
	f.far.noSession(t)
}

// The machine of the first run is gone without a word, and its connection seems to stand.
func TestRemoteTransferOfARunThatVanishedIsResumedByTheNext(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{Config: []string{"ClientAliveInterval 1", "ClientAliveCountMax 2"}})
	run := f.midway()
	f.far.proxy.Stall(true)
	run.signal(syscall.SIGKILL)
	run.wait()
	next := start(t, f.to([]string{"-S", "--compress", "none"}, f.far.remote.place(f.destination)))
	expect(t, exitDone, next.wait(), "waiting for process", " resumes after the ")
	f.isSaved(f.destination)
	f.far.noSession(t)
}
