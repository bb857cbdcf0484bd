// Package transport runs programs on this machine, and tells what a session on another one is. It is the one place that starts
// processes.
//
// On this machine, a program is given as an argument vector, never as a shell line. It runs in its own process group, so that
// a key typed at the terminal does not stop it, and is killed with that group when its context ends. It is also killed when
// this process dies, but its own children only lose their streams then.
package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Local is this machine.
type Local struct {
	// Level is what the lines that programs write to their standard error are logged at.
	Level slog.Level
	Log   *slog.Logger
}

// A Command is a program to run. Streams that are nil are empty.
type Command struct {
	Argv   []string
	Env    []string // more variables, as NAME=VALUE
	Name   string   // in messages; "": that of the program
	Stdin  *os.File
	Stdout *os.File
	// Said is told each line that the program writes to its standard error; may be nil.
	Said func(line string)
	// Term ends the program with SIGTERM, so that it can tidy up, and kills it only if it is still there after killDelay.
	Term bool
	// Here starts the program on the calling thread, in whose namespaces it is to run. If that thread ends, it is killed.
	Here bool
}

// A Process is a started program. Wait must be called.
type Process struct {
	cmd    *exec.Cmd
	ctx    context.Context
	cancel context.CancelFunc
	stderr *Stderr
}

const killDelay = 5 * time.Second

// Start starts a program.
func (l Local) Start(ctx context.Context, c Command) (*Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &Process{ctx: ctx, cancel: cancel,
		stderr: NewStderr(l.Log, l.Level, cmp.Or(c.Name, ProgramName(c.Argv)), c.Said)}
	p.cmd = exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	p.cmd.Env = append(append(os.Environ(), "LC_ALL=C"), c.Env...) // messages are looked at
	if _, err := os.Getwd(); err != nil {
		p.cmd.Dir = "/" // rsync does not run in a directory that is gone
	}
	if c.Stdin != nil {
		p.cmd.Stdin = c.Stdin
	}
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	end := unix.SIGKILL
	if c.Term {
		end = unix.SIGTERM
	}
	p.cmd.Cancel = func() error { return unix.Kill(-p.cmd.Process.Pid, end) }
	p.cmd.WaitDelay = killDelay // also for a grandchild that keeps standard error open
	l.Log.Debug("running " + strings.Join(c.Argv, " "))
	start := onLastingThread
	if c.Here {
		start = func(f func() error) error { return f() }
	}
	if err := start(p.cmd.Start); err != nil {
		cancel()
		return nil, fmt.Errorf("starting %s: %w", p.stderr.Program, err)
	}
	return p, nil
}

// onLastingThread starts a program on a thread that never ends: the death signal comes when the thread ends that started the
// program, and Go ends the threads of goroutines that end locked.
func onLastingThread(start func() error) error {
	started := make(chan error)
	starter() <- func() { started <- start() }
	return <-started
}

var starter = sync.OnceValue(func() chan<- func() {
	starts := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range starts {
			start()
		}
	}()
	return starts
})

// Output runs a program and returns what it writes to its standard output.
func (l Local) Output(ctx context.Context, argv ...string) (string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	p, err := l.Start(ctx, Command{Argv: argv, Stdout: w})
	w.Close()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	_, copyErr := r.WriteTo(&out)
	return out.String(), errors.Join(p.Wait(), copyErr)
}

// Kill ends the process and its group; Wait tells when it is gone.
func (p *Process) Kill() { p.cancel() }

// Group is the number of the process and its group.
func (p *Process) Group() int { return p.cmd.Process.Pid }

// Wait waits for the end of the process. It returns an *ExitError if the program failed, and the context's cause if that
// ended first.
func (p *Process) Wait() error {
	err := p.cmd.Wait()
	cause := context.Cause(p.ctx)
	p.cancel()
	p.stderr.Flush()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case cause != nil:
		return fmt.Errorf("%s stopped: %w", p.stderr.Program, cause)
	case errors.As(err, &exit):
		return &ExitError{Program: p.stderr.Program, State: exit.String(), Stderr: p.stderr.Tail()}
	default:
		return fmt.Errorf("waiting for %s: %w", p.stderr.Program, err)
	}
}

// ExitError tells that a program failed.
type ExitError struct {
	Program string
	State   string // such as "exit status 1" or "signal: killed"
	Stderr  string // the last lines that it wrote to its standard error, joined by "; "
}

// Killed tells that a signal ended the program.
func (e *ExitError) Killed() bool { return strings.HasPrefix(e.State, "signal") }

func (e *ExitError) Error() string {
	if e.Stderr == "" || e.Killed() {
		return e.Program + ": " + e.State
	}
	return e.Program + ": " + e.Stderr
}

// ProgramName is the name of a program together with its sub-command: "btrfs send".
func ProgramName(argv []string) string {
	name := filepath.Base(argv[0])
	if len(argv) > 1 && !strings.HasPrefix(argv[1], "-") && !strings.Contains(argv[1], "/") {
		name += " " + argv[1]
	}
	return name
}

// Pipe makes a pipe for a stream between this process and a child. Its ends are in blocking mode: with a whole thread for
// each of the few streams, the runtime's poller would only add system calls. A read or write ends with the child.
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	const size = 1 << 20                                           // the default of /proc/sys/fs/pipe-max-size
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, size) // a smaller buffer is slower, no more
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}
