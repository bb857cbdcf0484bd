package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"

	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/restore"
	"btrfs-backup/internal/retrieval"
)

// fileRestore restores single files and trees.
type fileRestore struct {
	paths     []string
	to        string
	overwrite bool
}

func (w *fileRestore) define(f *pflag.FlagSet) {
	f.StringArrayVar(&w.paths, "path", nil, "restore only `FILE` or a directory, may be repeated")
	f.StringVar(&w.to, "to", "", "write the files to `DIR`, not where they were")
	f.BoolVar(&w.overwrite, "overwrite", false, "replace files that exist")
}

func (w *fileRestore) isAsked() bool { return len(w.paths) > 0 || w.to != "" || w.overwrite }

func (w *fileRestore) restore(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	switch {
	case len(args) == 0:
		return misused("BACKUP is missing", "usage: btrfs-backup restore BACKUP --path FILE...; more with --help")
	case len(args) > 2, len(args) == 2 && len(w.paths) > 0:
		return misused("one BACKUP is needed with --path", "usage: btrfs-backup restore BACKUP --path FILE --path FILE; more with --help")
	}
	_, err := w.attempt(ctx, env, o, args, false)
	return err
}

// attempt restores files if that is meant: told is false if a second argument may as well be the target of a whole subvolume.
func (w *fileRestore) attempt(ctx context.Context, env environment, o *restoreOptions, args []string, unsure bool) (told bool, err error) {
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	places, machines, err := look(env, log, o.reach, args)
	if err != nil {
		return !unsure, err
	}
	defer machines.Close()
	from, at := machines.At(places[0])
	backup, err := restore.Find(ctx, from, at, o.until, env.now())
	if err != nil {
		return !unsure, err
	}
	order := retrieval.Order{Backup: backup, Paths: w.paths, Overwrite: w.overwrite, DryRun: o.dryRun}
	if unsure && len(args) == 1 && backup.Within == "" {
		return false, nil
	}
	if err := retrieval.CheckBackup(backup); err != nil {
		return true, err
	}
	if backup.Within != "" && len(args) == 2 {
		return true, misused(fmt.Sprintf("%s is a file or directory in a backup", backup), "name where it is to be written: --to DIR")
	}
	if err := w.target(ctx, &order, places, machines); err != nil {
		return !unsure || errors.As(err, new(retrieval.MissingError)), err
	}
	if len(order.Paths) == 0 {
		order.Paths = []string{"."}
	}
	return true, w.run(ctx, env, o, log, display, order)
}

// target finds out where files are written to, and with a second argument, which.
func (w *fileRestore) target(ctx context.Context, order *retrieval.Order, places []job.Place, machines *job.Machines) (err error) {
	to := &order.To
	if len(places) == 2 {
		host, at := machines.At(places[1])
		dir, below, err := retrieval.Meant(ctx, order.Backup, host, at)
		if err != nil {
			return err
		}
		order.Backup.Within, order.Paths = "", []string{below}
		to.Host, to.Dir, to.InPlace = host, dir, true
	}
	if w.to != "" {
		into, c := job.ParseFolders([]string{w.to})
		if err := c.Err(); err != nil {
			return err
		}
		to.Host, to.Dir = machines.At(into[0])
		to.InPlace = false
		return nil
	}
	if to.Host != nil {
		return nil
	}
	if to.Dir, err = retrieval.Home(ctx, order.Backup); err == nil {
		to.Host, to.Dir = machines.At(job.Local{Path: to.Dir})
		to.InPlace = true
	}
	return err
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
	r.Report.Before(told)
	if !o.dryRun {
		err = w.carryOut(ctx, display, r)
	}
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
	r.Report.After(told, err)
	return w.status(env, r.Report, err)
}

func (w *fileRestore) carryOut(ctx context.Context, display *progress.Display, r *retrieval.Retrieval) error {
	if display == nil {
		return r.Run(ctx, nil)
	}
	shown := display.Start(ctx, "restoring to "+r.Report.Target, nil)
	defer shown.Vanish()
	return r.Run(ctx, func(done, total int64) {
		shown.Set(done)
		shown.SetTotal(progress.Total{Bytes: total})
	})
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
