package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/round"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
)

type runOptions struct {
	config string
	tag    string
	disk   string
	dryRun bool
	output outputOptions
}

func newRun(env environment) *cobra.Command {
	o := &runOptions{}
	c := &cobra.Command{
		Use:   "run [options] [JOB...]",
		Short: "Run the jobs of the configuration that are due",
		Example: "  btrfs-backup run             those that are due\n" +
			"  btrfs-backup run home etc    these, due or not\n" +
			"  btrfs-backup run --dry-run   show what would be done",
		Long: `Run those jobs of the configuration that are due, or those that are named. A job
is due when a destination has no complete backup of the current day, or hour, or
whatever its "every" says. Disks are opened and closed, hooks run, and people
told, as the configuration says: see btrfs-backup.toml(5).`,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), env, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done and why, change nothing")
	f.StringVar(&o.tag, "tag", "", "only jobs that have the tag `NAME`")
	f.StringVar(&o.disk, "disk", "", "only jobs that need the disk `NAME`")
	o.output.defineVerbosity(f)
	o.output.defineQuiet(f)
	f.BoolVarP(&o.output.noProgress, "no-progress", "P", false, "show no progress")
	f.BoolVar(&o.output.json, "json", false, "print a report in JSON on standard output")
	defineConfig(&o.config, f)
	return c
}

// run does a round.
func (o *runOptions) run(ctx context.Context, env environment, names []string) error {
	outlivePipes()
	c, err := o.read(names)
	if err != nil {
		return err
	}
	if c.Log != "" && !o.dryRun {
		var closeFiles func()
		env, closeFiles = env.withLogFiles(c.Log)
		defer closeFiles()
	}
	log := env.newLog(o.output.level())
	given := env.ofJob(log, nil)
	history := report.History{Dir: given.State, Limit: report.DefaultLimit}
	runs, err := history.Runs()
	if err != nil {
		log.Warn("what earlier runs did is not known: " + err.Error())
	}
	r := &round.Round{
		Config: c, Names: names, Tag: o.tag, Disk: o.disk, DryRun: o.dryRun,
		Env: given, Runs: runs, Dir: env.runtime,
		Disks: disk.Options{Log: log, Ask: env.ask(), State: env.runtime},
		Do: func(ctx context.Context, e *round.Entry) (report.Result, error) {
			return o.do(ctx, env, e)
		},
		Record: func(ctx context.Context, e *round.Entry) { record(ctx, env, given, e) },
		End: func(ctx context.Context) {
			q := withRecord(env, standing.Question{Disks: c.Disks, Patience: defaultPatience})
			if err := q.WriteTextfile(ctx, c); err != nil {
				log.Warn(err.Error())
			}
		},
	}
	entries, err := r.Run(ctx)
	return o.conclude(ctx, env, r, entries, err)
}

func (o *runOptions) read(names []string) (*config.Config, error) {
	var c job.Complaints
	checkVerbosity(o.output.verbosity, &c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	found, err := readConfig(o.config)
	if err != nil {
		return nil, err
	}
	return found, found.CheckChoice(names, o.tag, o.disk)
}

// do does the job of an entry and tells what failed.
func (o *runOptions) do(ctx context.Context, env environment, e *round.Entry) (report.Result, error) {
	if err := e.Options.(jobOptions).priority.Set(); err != nil {
		return report.Result{}, err
	}
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	e.Spec.DryRun = o.dryRun
	t := task{spec: &e.Spec, job: e.Name, runtime: env.runtime, heading: "job " + e.Name}
	if !env.journal {
		t.heading = terminal.Heading("Job " + e.Name)
	}
	if e.Hooks != nil {
		t.around = e.Hooks
	}
	result, ended, err := t.do(ctx, env.ofJob(log, display))
	if display != nil {
		display.Close()
	}
	var c job.Complaints
	if errors.As(err, &c) {
		err = e.At(c)
	}
	if err != nil {
		return report.Result{}, err
	}
	if o.dryRun && !o.output.json {
		err = report.WritePlan(env.stdout, result.Report, o.output.verbosity == "debug")
	} else if env.terminal == nil && !o.output.json && !o.output.quiet {
		report.Log(log, result.Report)
	}
	tellFailures(env, result, ended, e.Spec.Reach.ResumeWindow)
	return result, err
}

// record adds a job to the history and to the log files.
func record(ctx context.Context, env environment, given job.Environment, e *round.Entry) {
	run := e.Run()
	run.Status = statuses[run.Outcome]
	if ctx.Err() != nil {
		run.Outcome = engine.Interrupted
	}
	remember(ctx, given, run)
	if env.files != nil {
		env.files.Outcome(e.Name + ": " + run.Line())
	}
}

// conclude tells what a round did, and gives the error that the program ends with.
func (o *runOptions) conclude(ctx context.Context, env environment, r *round.Round, entries []*round.Entry, around error) error {
	jobs := round.Jobs(entries, around)
	jobs.Outcome = round.Outcome(entries, around)
	jobs.Status = statuses[jobs.Outcome]
	ended := context.Cause(ctx)
	if ended != nil {
		jobs.Outcome, jobs.Status = engine.Interrupted, exitStatus(ended)
	}
	for _, e := range entries {
		complain(env, e.Err())
	}
	if around != nil && (ended == nil || !errors.Is(around, ended)) {
		complain(env, around)
	}
	if !o.dryRun {
		if err := r.Tell(context.WithoutCancel(ctx), entries, jobs); err != nil {
			jobs.Failures = append(jobs.Failures, engine.Failure{Err: err})
			if !r.Notify.Must {
				r.Env.Log.Warn(err.Error())
			} else if complain(env, err); jobs.Outcome == engine.Done {
				jobs.Outcome, jobs.Status = engine.Partly, exitPartly
			}
		}
	}
	if err := o.print(env, jobs); err != nil {
		return err
	}
	if ended != nil {
		return toldError{ended}
	}
	return statusError(jobs.Status).orNil()
}

func (o *runOptions) print(env environment, jobs report.Jobs) error {
	switch {
	case o.output.json:
		return report.WriteJSON(env.stdout, jobs)
	case o.dryRun && !o.output.quiet:
		return jobs.WriteSkipped(env.stdout)
	case env.terminal == nil || o.output.quiet || o.dryRun:
		return nil
	}
	return jobs.WriteTable(env.stderr, progress.Width(env.terminal))
}

// level gives the lowest level that is logged.
func (o *outputOptions) level() slog.Level {
	if o.quiet {
		return slog.LevelWarn
	}
	return levels[o.verbosity]
}
