package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
)

// runJob does a job of which there is nothing to complain, tells what was done, and adds it to the history.
func runJob(ctx context.Context, env environment, spec *job.Spec, o outputOptions) error {
	log, display := o.open(env, spec.DryRun)
	if display != nil {
		defer display.Close()
	}
	given := env.ofJob(log, display)
	machines := job.NewMachines(spec.Reach, given)
	defer machines.Close()
	planned, err := spec.Build(ctx, machines, given)
	if err != nil {
		return err
	}
	began := env.now()
	if !env.journal {
		log.Info(heading("Started at " + began.Format(time.ANSIC)))
	}
	did, ended := engine.Run(ctx, planned)
	if display != nil {
		display.Close()
	}
	err = conclude(env, log, o, did, ended)
	if !spec.DryRun {
		entry := report.Summarize(did, ended)
		entry.Time, entry.Duration, entry.Status = began, env.now().Sub(began), exitStatus(err)
		remember(ctx, given, entry, err)
	}
	if !env.journal {
		log.Info(heading("Finished at " + env.now().Format(time.ANSIC)))
	}
	return err
}

// ofJob gives what a job is given beside its Spec.
func (e environment) ofJob(log *slog.Logger, display *progress.Display) job.Environment {
	return job.Environment{Log: log, Progress: display, Now: e.now, Version: programVersion(), State: machineState(), Ask: e.ask()}
}

// machineState is the directory in which this machine remembers runs and destinations. $XDG_STATE_HOME counts for root, too.
func machineState() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "btrfs-backup")
	}
	if home, err := os.UserHomeDir(); err == nil && os.Geteuid() != 0 {
		return filepath.Join(home, ".local/state/btrfs-backup")
	}
	return "/var/lib/btrfs-backup"
}

// conclude tells what a run did, and gives the error that the program ends with. ended is what ended the run early.
func conclude(env environment, log *slog.Logger, o outputOptions, did *engine.Report, ended error) error {
	printErr := o.print(env, log, did)
	var failures []error
	for _, f := range did.AllFailures() {
		failures = append(failures, f.Err)
	}
	complain(env, failures...)
	switch outcome := did.Outcome(); {
	case ended != nil:
		return ended
	case printErr != nil:
		return printErr
	case outcome != engine.Done:
		return outcomeError{outcome}
	}
	return nil
}

// remember adds a run to the history. It is no reason for the run to fail that it cannot.
func remember(ctx context.Context, e job.Environment, run report.Run, err error) {
	if errors.As(err, new(signalError)) {
		run.Outcome = report.Interrupted
	}
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	history := report.History{Dir: e.State, Limit: report.DefaultLimit}
	if err := history.Add(ctx, run); err != nil {
		e.Log.Warn(fmt.Sprintf("adding this run to the history: %v", err))
	}
}
