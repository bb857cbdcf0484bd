// Command btrfs-backup takes snapshots of btrfs subvolumes and sends the difference to other places.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/process"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/stored"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
	"github.com/btrfs-backup/btrfs-backup/lock"
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

func main() { os.Exit(run(newEnvironment(), os.Args[1:])) }

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

// outlivePipes has writing to a pipe that nobody reads fail, not end the program: what it began is to be finished, and hooks are to
// clean up.
func outlivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// run carries out a command line and gives the exit status.
func run(env environment, args []string) int {
	process.AllowDescriptors()
	ctx, cancel := untilSignal()
	defer cancel()
	root := newRoot(env)
	if arguments.IsCompletionRequest(args) {
		unmark(root)
	}
	expanded, err := arguments.Expand(root, args)
	if err == nil {
		root.SetArgs(expanded)
		err = root.ExecuteContext(ctx)
	}
	if err != nil && !isTold(err) {
		complain(env, err)
		if isRunWithJSON(root, append(expanded, args...)) {
			tellInJSON(env, err)
		}
	}
	return exitStatus(err)
}

// isRunWithJSON tells whether a report in JSON is asked for, also by a command line that is wrong elsewhere.
func isRunWithJSON(root *cobra.Command, args []string) bool {
	command, _, err := root.Find(args)
	return err == nil && command == root && slices.Contains(args, "--json")
}

// tellInJSON reports a run that did not begin.
func tellInJSON(env environment, err error) {
	var did engine.Report
	for _, one := range hint.Each(err) {
		did.Failures = append(did.Failures, engine.Failure{Err: one})
	}
	_ = report.WriteJSON(env.stdout, resultOf(&did, err)) // it has been told
}

// isTold tells that what failed has been told.
func isTold(err error) bool {
	return errors.As(err, new(statusError)) || errors.As(err, new(toldError))
}

// toldError is an error that has been told.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// statusError ends a command with a status, when all has been told.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("status %d", int(s)) }

func (s statusError) orNil() error {
	if s == exitDone {
		return nil
	}
	return s
}

var statuses = map[engine.Outcome]int{engine.Partly: exitPartly, engine.Failed: exitFailed, engine.Busy: exitBusy}

func exitStatus(err error) int {
	var ended signalError
	var status statusError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &ended):
		return 128 + int(ended.signal)
	case errors.As(err, new(arguments.Error)), errors.As(err, new(job.Complaints)):
		return exitUsage
	case errors.As(err, new(*stored.LaterError)):
		return exitBusy
	case lock.IsHeld(err):
		return exitBusy
	case errors.As(err, &status):
		return int(status)
	default:
		return exitFailed
	}
}

// complain tells errors and the way forward, which is told once for several in a row; joined errors have their own lines and
// hints.
func complain(env environment, errs ...error) {
	all := hint.Each(errs...)
	for i, err := range all {
		env.tell("error", err.Error())
		forward := hint.Of(err)
		if forward != "" && (i+1 == len(all) || hint.Of(all[i+1]) != forward) {
			env.tell("hint", forward)
		}
	}
}

// tell writes a line about a failure.
func (e environment) tell(kind, text string) {
	if e.files != nil {
		slog.New(e.files.Handler()).Error(kind + ": " + text)
	}
	if e.journal {
		fmt.Fprintf(e.stderr, "<%d>%s: %s\n", terminal.Priority(slog.LevelError), kind, progress.Line(text))
		return
	}
	fmt.Fprintf(e.stderr, "btrfs-backup: %s: %s\n", kind, progress.Line(text))
}
