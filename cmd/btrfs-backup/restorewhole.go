package main

import (
	"context"
	"log/slog"

	"github.com/spf13/pflag"

	"btrfs-backup/internal/restore"
)

// wholeRestore restores a whole subvolume.
type wholeRestore struct {
	order restore.Order
}

func (w *wholeRestore) define(f *pflag.FlagSet) {
	f.BoolVar(&w.order.InPlace, "in-place", false, "put it in the place of the subvolume TARGET, which is kept")
	f.StringVarP(&w.order.SnapshotFolder, "snapshot-folder", "f", "", "keep the copy in `FOLDER`, as backups of TARGET do")
}

func (w *wholeRestore) isAsked() bool { return w.order.InPlace }

func (w *wholeRestore) restore(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	if len(args) != 2 {
		return misused("BACKUP and TARGET are needed", "usage: btrfs-backup restore [options] BACKUP TARGET; more with --help")
	}
	places, machines, err := look(env, env.newLog(slog.LevelInfo), o.reach, args)
	if err != nil {
		return err
	}
	defer machines.Close()
	w.order.From, w.order.Backup = machines.At(places[0])
	w.order.To, w.order.Target = machines.At(places[1])
	return restore.Run(ctx, w.order)
}
