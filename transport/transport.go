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
	"slices"
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
	Input  string // what it may read where there is no Stdin
	Stdout *os.File
	// Said is told each line that the program writes to its standard error; may be nil.
	Said func(line string)
	// Merged tells what it writes to its standard output as well.
	Merged bool
	Dir    string // in which it runs; "": here
	// User is another one as whom it runs. It sees of this environment no more than PATH, TZ and LANG.
	User *syscall.Credential
	// Grace is how long its group may go on after a SIGTERM, to tidy up, before it is killed; 0: it is killed at once.
	Grace time.Duration
	// Here starts the program on the calling thread, in whose namespaces it is to run. If that thread ends, it is killed.
	Here bool
}

// A Process is a started program. Wait must be called.
type Process struct {
	cmd    *exec.Cmd
	ctx    context.Context
	cancel context.CancelFunc
	stderr *Stderr
	grace  time.Duration
	late   time.Time // when what is left of the group is killed; zero: it was not ended
}

const killDelay = 5 * time.Second

// Start starts a program.
func (l Local) Start(ctx context.Context, c Command) (*Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &Process{ctx: ctx, cancel: cancel, grace: c.Grace,
		stderr: NewStderr(l.Log, l.Level, cmp.Or(c.Name, ProgramName(c.Argv)), c.Said)}
	p.cmd = exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	p.cmd.Env = append(append(inherited(c.User), "LC_ALL=C"), c.Env...) // messages are looked at
	p.cmd.Dir = c.Dir
	if _, err := os.Getwd(); err != nil && c.Dir == "" {
		p.cmd.Dir = "/" // rsync does not run in a directory that is gone
	}
	if c.Stdin != nil {
		p.cmd.Stdin = c.Stdin
	} else if c.Input != "" {
		p.cmd.Stdin = strings.NewReader(c.Input)
	}
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	p.cmd.Stderr = p.stderr
	if c.Merged {
		p.cmd.Stdout = p.stderr
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: c.User}
	p.cmd.Cancel = p.end
	p.cmd.WaitDelay = cmp.Or(c.Grace, killDelay) // also for a grandchild that keeps standard error open
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

// inherited gives the variables that a program of a user has from this one.
func inherited(user *syscall.Credential) []string {
	all := os.Environ()
	if user == nil {
		return all
	}
	return slices.DeleteFunc(all, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return !slices.Contains([]string{"PATH", "TZ", "LANG"}, name)
	})
}

// end begins to end the group.
func (p *Process) end() error {
	signal := unix.SIGKILL
	if p.grace > 0 {
		signal, p.late = unix.SIGTERM, time.Now().Add(p.grace)
	}
	return unix.Kill(-p.Group(), signal)
}

// reap kills what is left of an ended group when it is late. The leader was waited for, but its number is not given to another
// process while there is one in the group.
func (p *Process) reap() {
	for !p.late.IsZero() && unix.Kill(-p.Group(), 0) == nil {
		if time.Now().After(p.late) {
			_ = unix.Kill(-p.Group(), unix.SIGKILL) // it may be gone
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
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

// Run runs a program.
func (l Local) Run(ctx context.Context, c Command) error {
	p, err := l.Start(ctx, c)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Output runs a program and returns what it writes to its standard output.
func (l Local) Output(ctx context.Context, argv ...string) (string, error) {
	return l.OutputOf(ctx, Command{Argv: argv})
}

// OutputOf is Output of a command that has more than arguments.
func (l Local) OutputOf(ctx context.Context, c Command) (string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	c.Stdout = w
	p, err := l.Start(ctx, c)
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
	p.reap()
	p.stderr.Flush()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case cause != nil:
		return fmt.Errorf("%s stopped: %w", p.stderr.Program, cause)
	case errors.As(err, &exit):
		return &ExitError{Program: p.stderr.Program, State: exit.String(), Status: exit.ExitCode(), Stderr: p.stderr.Tail()}
	default:
		return fmt.Errorf("waiting for %s: %w", p.stderr.Program, err)
	}
}

// ExitError tells that a program failed.
type ExitError struct {
	Program string
	State   string // such as "exit status 1" or "signal: killed"
	Status  int    // -1 if a signal ended it
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

// Pipe makes a pipe for a stream between this process and a child, or the kernel. Its ends are in blocking mode: with a whole
// thread for each of the few streams, the runtime's poller would only add system calls. A read or write ends with the child.
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	Widen(fds[1])
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// Widen gives a pipe a large buffer, so that those at its ends wait for each other more seldom. What is no pipe stays as it is.
func Widen(fd int) {
	const size = 1 << 20                                       // the default of /proc/sys/fs/pipe-max-size
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size) // a smaller buffer is slower, no more
}
