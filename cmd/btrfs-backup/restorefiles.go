package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/pflag"
	"golang.org/x/time/rate"

	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/retrieval"
)

// fileRestore restores single files and trees.
type fileRestore struct {
	paths     []string
	to        string
	overwrite bool
}

func (w *fileRestore) define(f *pflag.FlagSet) {
	f.StringArrayVar(&w.paths, "path", nil, "only `FILE` or directory, may be repeated")
	f.StringVar(&w.to, "to", "", "write the files to `DIR`, not where they were")
	f.BoolVar(&w.overwrite, "overwrite", false, "replace files that exist")
}

func (w *fileRestore) isAsked() bool { return len(w.paths) > 0 || w.to != "" || w.overwrite }

func (w *fileRestore) restore(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	if err := w.check(o, args); err != nil {
		return err
	}
	_, err := w.attempt(ctx, env, o, args, false)
	return err
}

// check complains of what does not fit together.
func (w *fileRestore) check(o *restoreOptions, args []string) error {
	switch {
	case o.whole.isAsked():
		return misused("--path, --to and --overwrite are for files, and the options about a subvolume for a whole one", "leave one or the other out")
	case slices.Contains(w.paths, ""):
		return misused("--path needs a value", "is a variable unset? --path . is all of it")
	case len(args) == 0:
		return misused("BACKUP is missing", "usage: btrfs-backup restore BACKUP --path FILE...; more with --help")
	case len(args) > 2, len(args) == 2 && len(w.paths) > 0:
		return misused("one BACKUP is needed with --path", "usage: btrfs-backup restore BACKUP --path FILE --path FILE; more with --help")
	}
	return nil
}

// attempt restores files if that is meant: told is false if a second argument may as well be the target of a whole subvolume.
func (w *fileRestore) attempt(ctx context.Context, env environment, o *restoreOptions, args []string, unsure bool) (told bool, err error) {
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	all := slices.Clone(args)
	if w.to != "" {
		all = append(all, w.to)
	}
	places, machines, err := look(env, log, o.reach, all)
	if err != nil {
		return !unsure, err
	}
	defer machines.Close()
	from, at := machines.At(places[0])
	backup, err := restore.Find(ctx, from, at, o.until)
	if err != nil {
		return !unsure, err
	}
	if unsure && len(args) == 1 && backup.Within == "" {
		return false, nil
	}
	ask := retrieval.Ask{Order: retrieval.Order{Backup: backup, Paths: w.paths, Overwrite: w.overwrite, RateLimit: rate.Limit(o.limit),
		DryRun: o.dryRun}}
	ask.Here, _ = machines.At(job.Local{})
	if len(args) == 2 {
		ask.As.Host, ask.As.Dir = machines.At(places[1])
		ask.Typed = args[1]
	}
	if w.to != "" {
		ask.To.Host, ask.To.Dir = machines.At(places[len(args)])
	}
	order, err := ask.Resolve(ctx)
	if err != nil {
		return !unsure || errors.As(err, new(retrieval.MeantError)), err
	}
	return true, w.run(ctx, env, o, log, display, order)
}

func (w *fileRestore) run(ctx context.Context, env environment, o *restoreOptions, log *slog.Logger, display *progress.Display, order retrieval.Order) error {
	r, err := retrieval.Prepare(ctx, order)
	if err != nil {
		return err
	}
	defer r.Close()
	told := env.stdout
	if o.output.json || o.output.quiet {
		told = io.Discard
	}
	err = r.Run(ctx, display, told)
	if o.output.json {
		err = errors.Join(err, report.WriteJSON(env.stdout, r.Report))
	}
	failures, notes := r.Report.Complaints()
	for _, note := range notes {
		log.Warn(note)
	}
	for _, failure := range failures {
		env.tell("error", failure)
	}
	return w.status(env, r.Report, err)
}

// status gives the end of a restore of which not all was possible.
func (w *fileRestore) status(env environment, did *retrieval.Report, err error) error {
	switch {
	case err != nil && !did.Nothing() && !errors.As(err, new(signalError)):
		complain(env, err)
		return statusError(exitPartly)
	case err != nil:
		return err
	case did.DryRun:
	case did.Incomplete() && did.Nothing():
		return statusError(exitFailed)
	case did.Incomplete():
		return statusError(exitPartly)
	}
	return nil
}
