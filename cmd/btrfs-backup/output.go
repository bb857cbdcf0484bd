package main

import (
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// outputOptions choose what is told of a run.
type outputOptions struct {
	verbosity  string
	quiet      bool
	noProgress bool
	json       bool
}

func (o *outputOptions) defineVerbosity(f *pflag.FlagSet) {
	f.StringVarP(&o.verbosity, "verbosity", "v", "info", "`LEVEL`: debug, info, warning or error")
}

func (o *outputOptions) defineQuiet(f *pflag.FlagSet) {
	f.BoolVarP(&o.quiet, "quiet", "q", false, "log only failures and warnings, no progress")
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError,
}

func checkVerbosity(level string, c *job.Complaints) {
	if _, ok := levels[level]; !ok {
		c.Add("verbosity", "use debug, info, warning or error", "%s is unknown", level)
	}
}

// lineInterval is how often progress is told where there is no terminal.
const lineInterval = 30 * time.Second

// open gives the log and the display of transfers, which share the terminal. The display is nil if nobody is to see it.
func (o *outputOptions) open(env environment, dryRun bool) (*slog.Logger, *progress.Display) {
	level := o.level()
	log := env.newLog(level)
	switch {
	case o.noProgress || o.quiet || dryRun:
		return log, nil
	case env.terminal != nil:
		env, display := env.withBars()
		return env.newLog(level), display
	}
	return log, progress.NewLines(func(line string) { log.Info(line) }, lineInterval)
}

// print tells what was done: as JSON, as a plan, as a table on a terminal, or as lines of the log.
func (o *outputOptions) print(env environment, log *slog.Logger, r report.Result) error {
	switch {
	case o.json:
		return report.WriteJSON(env.stdout, r)
	case r.DryRun:
		return report.WritePlan(env.stdout, r.Report, o.verbosity == "debug")
	case o.quiet:
		return nil
	case env.terminal != nil:
		return report.WriteTable(env.stderr, r.Report, progress.Width(env.terminal))
	}
	report.Log(log, r.Report)
	return nil
}
