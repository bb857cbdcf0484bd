// Command btrfs-backup takes snapshots of btrfs subvolumes and sends the difference to other places.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
	"btrfs-backup/lock"
)

// Exit statuses. Those of signals are 128 and their number.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitPartly = 3
	exitDiffer = 4
	exitBusy   = 75 // sysexits.h: EX_TEMPFAIL
)

// environment is what the program takes from outside.
type environment struct {
	stdout   io.Writer
	stderr   io.Writer
	terminal *os.File // what bars are drawn on; nil without a terminal
	now      func() time.Time
}

// withBars gives a display of what takes long, and the environment whose output makes way for it.
func (e environment) withBars() (environment, *progress.Display) {
	if e.terminal == nil {
		return e, progress.Silent()
	}
	display := progress.NewBars(e.terminal)
	e.stdout, e.stderr = display.Writer(e.stdout), display.Writer(e.stderr)
	return e, display
}

func main() {
	env := environment{stdout: os.Stdout, stderr: os.Stderr, now: time.Now}
	if term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb" {
		env.terminal = os.Stderr
	}
	// cron's PATH lacks where some distributions keep btrfs
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	os.Exit(run(env, os.Args[1:]))
}

// signalError ends a context.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return "ended by a signal: " + e.signal.String() }

// untilSignal gives a context that ends with the first signal. A second one ends the program at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(signalError{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// run carries out a command line and gives the exit status.
func run(env environment, args []string) int {
	ctx, cancel := untilSignal()
	defer cancel()
	root := newRoot(env)
	args, err := expandArgs(root, args)
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	if err != nil && !isTold(err) {
		complain(env.stderr, err)
	}
	return exitStatus(err)
}

// isTold tells that what failed has been told.
func isTold(err error) bool {
	var outcome outcomeError
	return errors.As(err, &outcome) || errors.As(err, new(differsError))
}

// outcomeError ends a command whose failures have been told.
type outcomeError struct{ engine.Outcome }

func (outcomeError) Error() string { return "not everything succeeded" }

func exitStatus(err error) int {
	var ended signalError
	var outcome outcomeError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &ended):
		return 128 + int(ended.signal)
	case errors.As(err, new(usageError)), errors.As(err, new(job.Complaints)):
		return exitUsage
	case lock.IsHeld(err):
		return exitBusy
	case errors.As(err, new(differsError)):
		return exitDiffer
	case errors.As(err, &outcome):
		return map[engine.Outcome]int{engine.Partly: exitPartly, engine.Failed: exitFailed, engine.Busy: exitBusy}[outcome.Outcome]
	default:
		return exitFailed
	}
}

// complain tells an error and the way forward.
func complain(w io.Writer, err error) {
	var several job.Complaints
	if errors.As(err, &several) {
		for _, c := range several {
			complain(w, c)
		}
		return
	}
	for line := range strings.Lines(err.Error()) { // joined errors have a line each
		fmt.Fprintf(w, "btrfs-backup: error: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if hint := hint.Of(err); hint != "" {
		fmt.Fprintf(w, "btrfs-backup: hint: %s\n", hint)
	}
}
