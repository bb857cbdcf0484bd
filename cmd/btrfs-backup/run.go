package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/power"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// runJob does a job of which there is nothing to complain, tells what was done, and adds it to the history.
func runJob(ctx context.Context, env environment, spec *job.Spec, o outputOptions) error {
	log, display := o.open(env, spec.DryRun)
	if display != nil {
		defer display.Close()
	}
	given := env.ofJob(log, display)
	began := env.now()
	t := task{spec: spec, runtime: env.runtime}
	if !env.journal {
		t.heading = terminal.Heading("Started at " + began.Format(time.ANSIC))
	}
	result, ended, err := t.do(ctx, given)
	if err != nil {
		return err
	}
	if display != nil {
		display.Close()
	}
	err = conclude(env, log, o, result, ended, spec.Reach.ResumeWindow)
	if !spec.DryRun {
		entry := report.Summarize(result)
		entry.Time, entry.Duration = began, env.now().Sub(began)
		remember(ctx, given, entry)
	}
	if !env.journal {
		log.Info(terminal.Heading("Finished at " + env.now().Format(time.ANSIC)))
	}
	return err
}

// A task is a job of which there is nothing to complain, and what runs around its parts.
type task struct {
	spec    *job.Spec
	job     string        // its name in the configuration; "": none
	runtime string        // where others are told of it
	heading string        // is logged when it begins; "": nothing
	around  engine.Around // nil: nothing
}

// do does the job. The second error is why it could not begin; the first one ended it early, and is among the failures, too.
func (t task) do(ctx context.Context, given job.Environment) (result report.Result, ended, err error) {
	if !t.spec.DryRun {
		var end func()
		given.Progress, end = underway.Begin(ctx, t.runtime, underway.Run{Job: t.job, Source: t.spec.SourceName(), Began: given.Now()}, given.Progress)
		defer end()
	}
	machines := job.NewMachines(t.spec.Reach, given)
	defer machines.Close()
	given.Around = t.around
	run, err := t.spec.Prepare(ctx, machines, given)
	if err != nil {
		return result, nil, err
	}
	if !t.spec.DryRun {
		defer power.KeepAwake(given.Log, "a backup is being made")()
	}
	if t.heading != "" {
		given.Log.Info(t.heading)
	}
	did, ended := run(ctx)
	if ended != nil {
		did.Failures = append(did.Failures, engine.Failure{Err: ended})
	}
	return resultOf(did, ended), ended, nil
}

// resultOf sums a run up. err is what ended it early, if anything did.
func resultOf(did *engine.Report, err error) report.Result {
	outcome := did.Outcome()
	result := report.Result{Report: did, Outcome: outcome, Status: exitStatus(cmp.Or(err, statusError(statuses[outcome]).orNil()))}
	if errors.As(err, new(signalError)) {
		result.Outcome = engine.Interrupted
	}
	return result
}

// ofJob gives what a job is given beside its Spec.
func (e environment) ofJob(log *slog.Logger, display *progress.Display) job.Environment {
	return job.Environment{Log: log, Progress: display, Now: e.now, Version: programVersion(), State: lock.StateDir(), Ask: e.ask()}
}

// conclude tells what a run did, and gives the error that the program ends with. ended is what ended the run early; after a
// signal, what was received is kept for a while.
func conclude(env environment, log *slog.Logger, o outputOptions, r report.Result, ended error, kept time.Duration) error {
	interrupted := errors.As(ended, new(signalError))
	var printErr error
	if o.json || !interrupted {
		printErr = o.print(env, log, r)
	}
	tellFailures(env, r, ended, kept)
	switch {
	case ended != nil:
		return toldError{ended}
	case printErr != nil:
		return printErr
	}
	return statusError(r.Status).orNil()
}

// tellFailures tells what failed, or after a signal what is left.
func tellFailures(env environment, r report.Result, ended error, kept time.Duration) {
	if errors.As(ended, new(signalError)) {
		happened, forward := report.Interruption(r.Report, kept)
		complain(env, hint.New(fmt.Errorf("%w; %s", ended, happened), forward))
		return
	}
	var errs []error
	for _, f := range r.AllFailures() {
		errs = append(errs, f.Err)
	}
	complain(env, report.WithoutRoot(errs, os.Args[1:])...)
}

// remember adds a run to the history. It is no reason for the run to fail that it cannot, nor to say so each time.
func remember(ctx context.Context, e job.Environment, run report.Run) {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	history := report.History{Dir: e.State, Limit: report.DefaultLimit}
	if err := history.Add(ctx, run); err != nil {
		e.Log.Debug(fmt.Sprintf("adding this run to the history: %v", err))
	}
}
