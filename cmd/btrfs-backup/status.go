package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

type statusOptions struct {
	config     string
	maxAge     time.Duration
	patience   time.Duration
	nagios     bool
	json       bool
	prometheus bool
}

// defaultPatience is how long answers are waited for.
const defaultPatience = 5 * time.Second

func newStatus(env environment) *cobra.Command {
	o := &statusOptions{patience: defaultPatience}
	c := &cobra.Command{
		Use:   "status [options] [JOB...]",
		Short: "Show whether there are backups, and how old they are",
		Example: "  btrfs-backup status\n" +
			"  btrfs-backup status --max-age 2d home\n" +
			"  btrfs-backup status --nagios",
		Long: `Ask the destinations of each JOB of the configuration, or of all, for the newest
complete backup of its source. Nothing is locked or changed. What gives no
answer is shown with what is on record, and is never good. LATE is what is
older than --max-age, or else the job's "max-age", or else twice its "every";
BAD what is older than twice that; DAMAGED, where a store lacks something of a
backup. A disk may be away ("when-absent") until then.

The exit status is 0 if all is good, else 4. With --nagios it is 0, 1 (LATE),
2 (BAD, NEVER, DAMAGED) or 3 (no answer), of the worst.`,
		RunE: func(c *cobra.Command, args []string) error {
			err := o.status(c.Context(), env, args)
			if o.nagios {
				return toldNagios(env, err)
			}
			return err
		},
	}
	o.define(c.Flags())
	return c
}

func (o *statusOptions) define(f *pflag.FlagSet) {
	f.Var(arguments.Time{Of: &o.maxAge, Least: time.Second}, "max-age", "call a backup late that is older than `TIME`: 26h, 2d")
	f.Var(arguments.Time{Of: &o.patience, Least: time.Second}, "timeout", "wait `TIME` for answers")
	f.BoolVar(&o.nagios, "nagios", false, "output and exit status of a plugin of Nagios")
	f.BoolVar(&o.json, "json", false, "show as JSON")
	f.BoolVar(&o.prometheus, "prometheus", false, "show as metrics of Prometheus")
	defineConfig(&o.config, f)
}

// status tells of the named jobs, or of all.
func (o *statusOptions) status(ctx context.Context, env environment, names []string) error {
	if o.nagios && o.json || o.nagios && o.prometheus || o.json && o.prometheus {
		return misused("--nagios, --json and --prometheus are different outputs", "give one of them")
	}
	found, err := lookInto(o.config)
	if err != nil {
		return err
	}
	jobs, err := found.Chosen(names)
	if err != nil {
		return err
	}
	all := withRecord(env, standing.Question{Disks: found.Disks, MaxAge: o.maxAge, Patience: o.patience}).Survey(ctx, jobs)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if o.nagios {
		status, err := standing.WriteNagios(env.stdout, all, env.now())
		return cmp.Or(err, statusError(status).orNil())
	}
	if err := o.write(env, all); err != nil {
		return err
	}
	complain(env, standing.Failures(all)...)
	if !standing.AreFine(all) {
		return statusError(exitDiffer)
	}
	return nil
}

// toldNagios makes what kept the jobs from being asked an answer, too.
func toldNagios(env environment, err error) error {
	if err == nil || errors.As(err, new(statusError)) {
		return err
	}
	status, writeErr := standing.WriteNagiosFailure(env.stdout, err)
	return errors.Join(statusError(status), writeErr)
}

// withRecord gives a question with what is on record. A history that cannot be read is told, and counts as empty.
func withRecord(env environment, q standing.Question) standing.Question {
	q.Environment = env.ofJob(slog.New(slog.DiscardHandler), nil)
	q.Ask = nil
	var err error
	if q.Runs, err = (report.History{Dir: q.State}).Runs(); err != nil {
		complain(env, fmt.Errorf("reading the history of runs: %w", err))
	}
	return q
}

func (o *statusOptions) write(env environment, all []standing.Job) error {
	switch {
	case o.json:
		return report.WriteJSON(env.stdout, all)
	case o.prometheus:
		return standing.WritePrometheus(env.stdout, all)
	}
	return standing.WriteTable(env.stdout, all, env.now(), progress.Width(env.terminal))
}
