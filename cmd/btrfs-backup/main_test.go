package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Variables that a test sets for the program that it runs.
const (
	testOnlyKillAt = "BTRFS_BACKUP_TEST_KILL_AT" // the program kills itself after writing this many lines, or this text, to standard error
	testOnlyNow    = "BTRFS_BACKUP_TEST_NOW"     // its clock starts at this time, in RFC 3339
)

// TestMain puts this test binary into PATH as btrfs-backup, so that tests run the real program, in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(ownState{m}, map[string]func(){"btrfs-backup": testOnlyMain})
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
	return m.M.Run()
}

func testOnlyMain() {
	env := environment{stdout: os.Stdout, stderr: os.Stderr, now: time.Now}
	if at, err := strconv.Atoi(os.Getenv(testOnlyKillAt)); err == nil {
		env.stderr = &suicidal{w: os.Stderr, lines: at}
	} else if text := os.Getenv(testOnlyKillAt); text != "" {
		env.stderr = &suicidal{w: os.Stderr, text: text}
	}
	if start, err := time.Parse(time.RFC3339, os.Getenv(testOnlyNow)); err == nil {
		began := time.Now()
		env.now = func() time.Time { return start.Add(time.Since(began)) }
	}
	os.Exit(run(env, os.Args[1:]))
}

// suicidal kills its process at a line.
type suicidal struct {
	w     io.Writer
	lines int
	text  string // counts in place of lines, if it is not ""
}

func (s *suicidal) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if s.lines--; s.lines == 0 || s.text != "" && strings.Contains(string(p), s.text) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return n, err
}

// result is how a run of the program ended.
type result struct {
	stdout, stderr string
	status         int // 128 and the number of the signal that killed it
}

// invoke runs the program, with more environment variables ("NAME=VALUE").
func invoke(t testing.TB, environ []string, args ...string) result {
	t.Helper()
	cmd := exec.Command("btrfs-backup", args...)
	cmd.Env = append(os.Environ(), environ...)
	return invokeCmd(t, cmd)
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
