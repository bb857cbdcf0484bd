package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// resumed fails the test unless a run went on where a transfer was, and since the link had carried so many bytes, it has
// carried the stream once, but for what was in flight when the connection broke.
func (f *farRig) resumed(run result, before int64) {
	f.Helper()
	const inFlight = 4 << 20
	if !strings.Contains(run.stderr, " resumes after the ") {
		f.Fatalf("the transfer did not go on where it was:\n%s", run.stderr)
	}
	if crossed := f.far.proxy.Up.Load() - before; crossed > transferSize+inFlight {
		f.Fatalf("%d bytes crossed for a stream of %d\n%s", crossed, transferSize, run.stderr)
	}
}

func TestRemoteAgentKilledInMidTransferIsStartedAnew(t *testing.T) {
	t.Parallel()
	for name, resumed := range map[string]bool{"the first": false, "that keeps the transfer after a resume": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFarRig(t, sshtest.Options{})
			run := f.midway()
			if resumed {
				f.far.proxy.Cut()
				run.says(" resumes after the ")
				f.far.crosses(t, f.far.proxy.Up.Load()+transferSize/8)
			}
			kill(t, f.keeper())
			expect(t, exitDone, run.wait(), f.newest()+" is sent from the start: the received part is gone")
			f.isSavedFar()
			f.far.noSession(t)
		})
	}
}

func TestRemoteAgentThatIsKilledEachTimeFailsTheTransferAndHeals(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, `test -e "$dir/deadly" && export `+testOnlyKillAt+`="receive begun"; exec "$real" "$@"`)
	f := newFarRig(t, agent.options())
	before := names(t, f.destination)
	deadly := makeDir(t, filepath.Join(agent.dir, "deadly"))
	run := start(t, f.to(nil))
	expect(t, exitFailed, run.wait(), "btrfs-backup: error: sending "+f.newest()+" to "+f.url)
	remove(t, deadly)
	f.holdsOnly(before)
	f.far.noSession(t)
	f.healsFar()
}

func TestRemoteSessionKilledInMidTransferIsResumed(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	before := f.far.proxy.Up.Load()
	run := f.midway()
	kill(t, parent(t, f.keeper())) // sshd's process for the connection
	f.resumed(expect(t, exitDone, run.wait()), before)
	f.isSavedFar()
	f.far.noSession(t)
}

func TestRemoteKilledInMidTransferLeavesOnlyCompleteBackupsAndHeals(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	before := names(t, f.destination)
	run := f.midway("--resume-window", "1s")
	f.far.Kill()
	failed := "btrfs-backup: error: sending " + f.newest() + " to " + f.url
	expect(t, exitFailed, run.wait(), failed, "closed during the handshake", "btrfs-backup: hint: ")
	f.far.noSession(t)
	if got := onlyCompleteBackups(t, f.source, f.destination); len(got) != len(before) {
		t.Fatalf("the backups are %v instead of %v", got, before)
	}
	f.lacks(f.newest(), f.url)
	f.far = newLink(t, sshtest.Options{})
	f.url = f.far.place(f.destination)
	f.healsFar()
}

func TestRemoteTransferOfAKilledRunIsResumedByTheNext(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	before, backups := f.far.proxy.Up.Load(), names(t, f.destination)
	run := f.midway()
	run.signal(syscall.SIGKILL)
	run.wait()
	if got := onlyCompleteBackups(t, f.source, f.destination); len(got) != len(backups) {
		t.Fatalf("the backups are %v instead of %v", got, backups)
	}
	f.resumed(f.healsFar("-S"), before)
}

func TestRemoteTransferOfAKilledRunIsGivenUpAfterAWhile(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, newAgent(t, briefly).options())
	before := names(t, f.destination)
	run := f.midway()
	run.signal(syscall.SIGKILL)
	run.wait()
	f.far.noSession(t)
	f.holdsOnly(before)
	healed := f.healsFar()
	if strings.Contains(healed.stderr, " resumes after the ") {
		t.Errorf("it went on with what was given up:\n%s", healed.stderr)
	}
}

func TestRemoteTransferIsKeptAsLongAsItsCallerAsksFor(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	before := names(t, f.destination)
	run := f.midway("--resume-window", "500ms")
	run.signal(syscall.SIGKILL)
	run.wait()
	f.far.noSession(t)
	f.holdsOnly(before)
}

// So does a machine that is shut down.
func TestAnAgentThatKeepsATransferEndsBySIGTERM(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	before := names(t, f.destination)
	run := f.midway()
	keeper := f.keeper()
	run.signal(syscall.SIGKILL)
	run.wait()
	btrfstest.Check(t, syscall.Kill(keeper, syscall.SIGTERM))
	f.far.noSession(t)
	f.holdsOnly(before)
	f.healsFar()
}

func TestRemoteTransferCutBeforeItsEndIsConfirmedIsSentOnce(t *testing.T) {
	t.Parallel()
	hold := filepath.Join(t.TempDir(), "hold")
	f := newFarRig(t, sshtest.Options{Env: []string{testOnlyHoldAt + "=received=" + hold}})
	before := f.far.proxy.Up.Load()
	makeDir(t, hold)
	f.write("large", transferSize)
	run := start(t, f.to([]string{"--compress", "none"}))
	eventually(t, func() bool { return subvolumes(t, f.destination)[btrfs.Incoming(f.newest())].ReadOnly }, run.said)
	f.far.proxy.Cut()
	run.says("connecting again")
	remove(t, hold)
	f.resumed(expect(t, exitDone, run.wait()), before)
	f.isSavedFar()
	f.far.noSession(t)
}

func TestRemoteTransferOfARunKilledBeforeTheCommitIsSentOnce(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	before, backups := f.far.proxy.Up.Load(), names(t, f.destination)
	f.write("large", transferSize)
	cmd := f.to([]string{"--compress", "none", "-v", "debug"})
	cmd.Env = append(cmd.Env, testOnlyKillAt+"=transferred")
	expect(t, 128+int(syscall.SIGKILL), invokeCmd(t, cmd))
	if got := onlyCompleteBackups(t, f.source, f.destination); len(got) != len(backups) {
		t.Fatalf("the backups are %v instead of %v", got, backups)
	}
	f.resumed(f.healsFar("-S"), before)
}

// The agent is killed between the steps of the commit, so that the reply never comes.
func TestRemoteCommitThatWasInterruptedIsFinished(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, `rmdir "$dir/deadly" 2>/dev/null && export `+testOnlyKillAt+`=renamed; exec "$real" "$@"`)
	f := newFarRig(t, agent.options())
	deadly := makeDir(t, filepath.Join(agent.dir, "deadly"))
	run := expect(t, exitDone, f.send("-v", "debug"), "once more")
	if exists(deadly) || strings.Contains(run.stderr, "resumes after") {
		t.Errorf("the agent was not killed in the commit:\n%s", run.stderr)
	}
	f.isSavedFar()
	f.isOnRecord(f.newest())
	f.far.noSession(t)
}

// isOnRecord fails the test unless the record of the destination says of which source the backup is.
func (f *farRig) isOnRecord(backup string) {
	f.Helper()
	content, err := os.ReadFile(filepath.Join(f.destination, ".btrfs-backup", "origins.json"))
	btrfstest.Check(f, err)
	if received := subvolumes(f, f.destination)[backup].ReceivedUUID.String(); !strings.Contains(string(content), received) {
		f.Fatalf("%s (%s) is not on record:\n%s", backup, received, content)
	}
}
