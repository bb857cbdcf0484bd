package main

import (
	"context"
	"log/slog"

	"github.com/spf13/pflag"
	"golang.org/x/time/rate"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/power"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/retrieval"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// wholeRestore restores a whole subvolume.
type wholeRestore struct {
	order restore.Order
}

func (w *wholeRestore) define(f *pflag.FlagSet) {
	f.BoolVar(&w.order.InPlace, "in-place", false, "replace the subvolume TARGET, kept beside it")
	f.StringVarP(&w.order.SnapshotFolder, "snapshot-folder", "f", "", "`FOLDER` of TARGET that keeps the copy")
	f.BoolVar(&w.order.LeaveNested, "leave-nested", false, "leave subvolumes in TARGET where they are")
	f.BoolVar(&w.order.RebootNeeded, "reboot-needed", false, "replace the root of the running system")
}

func (w *wholeRestore) isAsked() bool {
	return w.order.InPlace || w.order.LeaveNested || w.order.RebootNeeded
}

func (w *wholeRestore) restore(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	if len(args) != 2 {
		return misused("BACKUP and TARGET are needed", "usage: btrfs-backup restore [options] BACKUP TARGET; more with --help")
	}
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	places, machines, err := look(env, log, o.reach, args)
	if err != nil {
		return err
	}
	defer machines.Close()
	from, at := machines.At(places[0])
	if w.order.Backup, err = restore.Find(ctx, from, at, o.until); err != nil {
		return err
	}
	if !o.dryRun {
		defer power.KeepAwake(log, "a backup is being restored")()
	}
	w.order.To, w.order.Target = machines.At(places[1])
	if isTree, err := retrieval.IsTree(ctx, w.order.Backup, w.order.To, w.order.Target); err != nil {
		return err
	} else if isTree {
		return w.tree(ctx, env, o, log, display)
	}
	w.order.Settings = engine.Settings{NoWait: o.noWait, DryRun: o.dryRun, Log: log, Now: env.now, State: lock.State{Dir: lock.StateDir()}}
	w.order.RateLimit, w.order.Progress = rate.Limit(o.limit), display
	did, err := restore.Run(ctx, w.order)
	if err != nil {
		return err
	}
	return o.tell(env, did)
}

// tree restores all files of a backup that comes back as no subvolume.
func (w *wholeRestore) tree(ctx context.Context, env environment, o *restoreOptions, log *slog.Logger, display *progress.Display) error {
	to := retrieval.Target{Host: w.order.To, Dir: w.order.Target}
	if w.order.InPlace || w.order.SnapshotFolder != "" || w.order.LeaveNested || w.order.RebootNeeded {
		return retrieval.NoSubvolume(w.order.Backup, to)
	}
	order, err := retrieval.Tree(ctx, retrieval.Order{Backup: w.order.Backup, RateLimit: rate.Limit(o.limit), DryRun: o.dryRun}, to)
	if err != nil {
		return err
	}
	return o.single.run(ctx, env, o, log, display, order)
}
