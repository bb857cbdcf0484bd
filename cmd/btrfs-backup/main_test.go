package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"

	"github.com/rogpeppe/go-internal/testscript"
)

// Variables that a test sets for the program that it runs.
const (
	testOnlyKillAt = "BTRFS_BACKUP_TEST_KILL_AT" // the program kills itself behind this many of its steps, or the first of this name
	testOnlyHoldAt = "BTRFS_BACKUP_TEST_HOLD_AT" // the program waits at the step of this name for as long as a directory exists: STEP=DIRECTORY
	testOnlyNow    = "BTRFS_BACKUP_TEST_NOW"     // its clock stands at this time, in RFC 3339, until it waits for the next second
	testOnlyWait   = "BTRFS_BACKUP_TEST_WAIT"    // for how long it waits for a server
	testOnlyRun    = "BTRFS_BACKUP_TEST_RUN"     // the directory of what runs keep until the machine stops
)

// TestMain puts this test binary into PATH as btrfs-backup, so that tests run the real program, in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(ownState{m}, map[string]func(){"btrfs-backup": testOnlyMain, testOnlySet: testOnlySetMain})
}

// ownState keeps what tests make a machine remember out of its own memory.
type ownState struct{ *testing.M }

func (m ownState) Run() int {
	dir, err := os.MkdirTemp("", "btrfs-backup-state")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Setenv("XDG_STATE_HOME", dir)
	os.Setenv(testOnlyRun, filepath.Join(dir, "run"))
	return m.M.Run()
}

func testOnlyMain() { os.Exit(run(testOnlyEnvironment(), os.Args[1:])) }

func testOnlyEnvironment() environment {
	env := newEnvironment()
	var waited atomic.Int64 // seconds
	at := func(step string) {}
	if kill := os.Getenv(testOnlyKillAt); kill != "" {
		at = killAt(kill)
	}
	if hold := os.Getenv(testOnlyHoldAt); hold != "" {
		at = holdAt(hold)
	}
	failpoint.OnReach(func(step string) {
		if step == engine.SecondAwaited {
			waited.Add(1)
			return
		}
		at(step)
	})
	if dir := os.Getenv(testOnlyTap); dir != "" {
		testOnlyTapStreams(dir)
	}
	if start, err := time.Parse(time.RFC3339, os.Getenv(testOnlyNow)); err == nil {
		env.now = func() time.Time { return start.Add(time.Duration(waited.Load()) * time.Second) }
	}
	if d, err := time.ParseDuration(os.Getenv(testOnlyWait)); err == nil {
		failpoint.SetPatience(d)
	}
	if dir := os.Getenv(testOnlyRun); dir != "" {
		env.runtime = dir
	}
	return env
}

// killedAt begins the last line that the program writes if it kills itself.
const killedAt = "killed at: "

// killAt gives what counts steps (see package failpoint), and kills the process.
func killAt(at string) func(step string) {
	var mu sync.Mutex
	number, _ := strconv.Atoi(at) // or it is a name
	return func(step string) {
		mu.Lock()
		defer mu.Unlock()
		if number--; number == 0 || step == at {
			fmt.Fprintln(os.Stderr, killedAt+step)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// heldAt begins the line that the program writes when it waits.
const heldAt = "held at: "

// holdAt gives what waits at a step.
func holdAt(at string) func(step string) {
	name, dir, _ := strings.Cut(at, "=")
	return func(step string) {
		if step == name && exists(dir) {
			fmt.Fprintln(os.Stderr, heldAt+step)
			for exists(dir) {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}

// step gives the step at which the program killed itself, or "".
func (r result) step() string {
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	step, _ := strings.CutPrefix(lines[len(lines)-1], killedAt)
	if r.status != 128+int(syscall.SIGKILL) || step == lines[len(lines)-1] {
		return ""
	}
	return step
}

// result is how a run of the program ended.
type result struct {
	stdout, stderr string
	status         int // 128 and the number of the signal that killed it
}

// invoke runs the program, with more environment variables ("NAME=VALUE").
func invoke(t testing.TB, environ []string, args ...string) result {
	t.Helper()
	return invokeCmd(t, prepare(environ, args...))
}

// prepare prepares a run of the program.
func prepare(environ []string, args ...string) *exec.Cmd {
	cmd := exec.Command("btrfs-backup", args...)
	cmd.Env = append(os.Environ(), environ...)
	return cmd
}

func invokeCmd(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status := cmd.ProcessState.ExitCode()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		status = 128 + int(ws.Signal())
	}
	return result{stdout.String(), stderr.String(), status}
}

// succeed runs the program, which must exit 0.
func succeed(t testing.TB, args ...string) result {
	t.Helper()
	return expect(t, exitDone, invoke(t, nil, args...))
}

// expect fails the test unless the run ended with the status and said each of the texts.
func expect(t testing.TB, status int, r result, texts ...string) result {
	t.Helper()
	if r.status != status {
		t.Fatalf("exit status %d, want %d\n%s%s", r.status, status, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Fatalf("%q is not in the output:\n%s%s", text, r.stdout, r.stderr)
		}
	}
	return r
}
