package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A rig is a small source with one backup at a destination, and an increment due.
type rig struct {
	testing.TB
	sourceFS, destinationFS *btrfstest.FS
	source, destination     string
	past                    *past
}

// past is what happened to a rig.
type past struct {
	runs    int // each run is an hour later than the one before
	changes int // each makes other data
}

const rigSize = 256 << 20

// withData is an option with which the data of files is in the stream, although source and destination are on one machine.
const withData = "--rate-limit=1G"

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOn(t, btrfstest.New(t, rigSize), btrfstest.New(t, rigSize))
}

func newRigOn(t testing.TB, sourceFS, destinationFS *btrfstest.FS) *rig {
	t.Helper()
	r := &rig{
		TB: t, sourceFS: sourceFS, destinationFS: destinationFS,
		source: filepath.Join(sourceFS.Dir, "home"), destination: filepath.Join(destinationFS.Dir, "backups"),
		past: &past{},
	}
	btrfstest.Run(t, "btrfs", "subvolume", "create", r.source)
	btrfstest.SmallFiles(t, r.source, 20, 1)
	r.change()
	expect(t, exitDone, r.run(nil))
	r.change()
	return r
}

// change makes an increment due.
func (r *rig) change() {
	r.Helper()
	r.write("data", 300_000)
}

// write makes a file of n incompressible bytes in the source.
func (r *rig) write(name string, n int) {
	r.Helper()
	r.past.changes++
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(r.past.changes), byte(r.past.changes >> 8)}).Read(data)
	if err := os.WriteFile(filepath.Join(r.source, name), data, 0o644); err != nil {
		r.Fatal(err)
	}
}

// command prepares a run from the source to the destination.
func (r *rig) command(environ []string, options ...string) *exec.Cmd {
	return r.commandTo(environ, slices.Concat(options, []string{r.source, r.destination})...)
}

// commandTo prepares a run with all of its arguments.
func (r *rig) commandTo(environ []string, args ...string) *exec.Cmd {
	r.past.runs++
	now := time.Date(2026, 1, 1, r.past.runs, 0, 0, 0, time.UTC)
	cmd := exec.Command("btrfs-backup", args...)
	cmd.Env = append(os.Environ(), testOnlyNow+"="+now.Format(time.RFC3339))
	cmd.Env = append(cmd.Env, environ...)
	return cmd
}

func (r *rig) run(environ []string, options ...string) result {
	r.Helper()
	return invokeCmd(r, r.command(environ, options...))
}

func (r *rig) runTo(environ []string, args ...string) result {
	r.Helper()
	return invokeCmd(r, r.commandTo(environ, args...))
}

// snapshots gives the names of the snapshots that runs took, oldest first.
func (r *rig) snapshots() []string {
	r.Helper()
	all := names(r, filepath.Join(r.source, "snapshot"))
	return slices.DeleteFunc(all, func(name string) bool { return !finalName.MatchString(name) })
}

func (r *rig) newest() string {
	r.Helper()
	all := r.snapshots()
	if len(all) == 0 {
		r.Fatal("there is no snapshot")
	}
	return all[len(all)-1]
}

// holdsOnly fails the test unless the destination holds these backups and nothing unfinished.
func (r *rig) holdsOnly(backups []string) {
	r.Helper()
	if got := onlyCompleteBackups(r, r.source, r.destination); !slices.Equal(got, backups) {
		r.Fatalf("the backups are %v instead of %v", got, backups)
	}
	if left := unfinished(r, r.destination); len(left) > 0 {
		r.Fatalf("left unfinished in %s: %v", r.destination, left)
	}
}

// heals fails the test unless a plain run saves all there is and leaves nothing else.
func (r *rig) heals(options ...string) {
	r.Helper()
	expect(r, exitDone, r.run(nil, options...))
	r.isSaved(r.destination)
}

// isSaved fails the test unless the destination holds the newest snapshot, and nothing unfinished.
func (r *rig) isSaved(destination string) {
	r.Helper()
	if got := onlyCompleteBackups(r, r.source, destination); !slices.Contains(got, r.newest()) {
		r.Fatalf("the newest snapshot %s is not in %s: %v", r.newest(), destination, got)
	}
	if left := unfinished(r, destination); len(left) > 0 {
		r.Fatalf("left unfinished in %s: %v", destination, left)
	}
	if outstanding := r.ledger()[r.newest()].Locks; slices.Contains(outstanding, destination) {
		r.Fatalf("the ledger still says that %s lacks %s", destination, r.newest())
	}
}

// ledgerEntry is what version 0.3.1 reads.
type ledgerEntry struct {
	Locks       []string `json:"locks"`
	ParentLocks []string `json:"parent_locks"`
}

func (r *rig) ledger() map[string]ledgerEntry {
	r.Helper()
	content, err := os.ReadFile(filepath.Join(r.source, "snapshot", lock.LedgerFile))
	if err != nil {
		r.Fatal(err)
	}
	var entries map[string]ledgerEntry
	if err := json.Unmarshal(content, &entries); err != nil {
		r.Fatalf("the ledger cannot be read: %v\n%s", err, content)
	}
	return entries
}

// sentTo gives the transfers that a run with --json reports for a destination.
func sentTo(t testing.TB, r result, destination string) []engine.TransferReport {
	t.Helper()
	var report struct {
		Destinations []struct {
			Destination string
			Transfers   []engine.TransferReport
		}
	}
	decoder := json.NewDecoder(strings.NewReader(r.stdout))
	if err := decoder.Decode(&report); err != nil {
		t.Fatalf("the report cannot be read: %v\n%s", err, r.stdout)
	}
	for _, d := range report.Destinations {
		if d.Destination == destination {
			return d.Transfers
		}
	}
	t.Fatalf("%s is not in the report:\n%s", destination, r.stdout)
	return nil
}

// A background is a run under way.
type background struct {
	t   testing.TB
	cmd *exec.Cmd
	log string
}

// start begins a run, which is killed if the test ends before it.
func start(t testing.TB, cmd *exec.Cmd) *background {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return &background{t, cmd, log.Name()}
}

func (b *background) said() string {
	b.t.Helper()
	content, err := os.ReadFile(b.log)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(content)
}

// says waits until the run says the text.
func (b *background) says(text string) {
	b.t.Helper()
	eventually(b.t, func() bool { return strings.Contains(b.said(), text) }, func() string {
		return "the run does not say " + text + ":\n" + b.said()
	})
}

// isRunning fails the test if the run has ended.
func (b *background) isRunning() {
	b.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	// proc(5): pid (comm) state, where Z is a process that has ended
	if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "Z") {
		b.t.Fatalf("the run has ended:\n%s", b.said())
	}
}

func (b *background) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}

// wait waits for the end of the run, which is killed if it does not come.
func (b *background) wait() result {
	b.t.Helper()
	giveUp := time.AfterFunc(patience, func() { _ = b.cmd.Process.Kill() })
	defer giveUp.Stop()
	var exit *exec.ExitError
	if err := b.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	status := b.cmd.ProcessState.ExitCode()
	if ws := b.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		status = 128 + int(ws.Signal())
	}
	return result{stderr: b.said(), status: status}
}

// patience is for machines with much else to do.
const patience = 5 * time.Minute

// within tells whether the condition comes to hold.
func within(holds func() bool) bool {
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// eventually fails the test unless the condition comes to hold.
func eventually(t testing.TB, holds func() bool, otherwise func() string) {
	t.Helper()
	if !within(holds) {
		t.Fatal(otherwise())
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// in gives the rig to a subtest.
func (r *rig) in(t testing.TB) *rig {
	sub := *r
	sub.TB = t
	return &sub
}
