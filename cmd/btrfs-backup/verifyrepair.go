package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/repair"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// repairOptions are for healing what cannot be read of a backup.
type repairOptions struct {
	from   string
	dryRun bool
}

func (o *repairOptions) define(f *pflag.FlagSet) {
	f.StringVar(&o.from, "repair-from", "", "heal BACKUP by what the snapshot `SOURCE` holds")
	f.BoolVar(&o.dryRun, "dry-run", false, "with --repair-from: change nothing")
}

func (o *repairOptions) isAsked() bool { return o.from != "" || o.dryRun }

// check gives what is wrong with the options.
func (o *repairOptions) check(v *verifyOptions, backups int) error {
	switch {
	case o.from == "":
		return misused("--dry-run needs --repair-from", "verify alone changes nothing at a backup")
	case v.fast || v.export || v.subset != "" || v.against != "":
		return misused("--repair-from reads all of a backup", "leave out --fast, --subset, --against and --export")
	case backups != 1:
		return misused("--repair-from heals one BACKUP", "name one backup, and the snapshot that it is of")
	}
	return nil
}

func (o *repairOptions) run(ctx context.Context, env environment, v *verifyOptions, args []string) error {
	if err := o.check(v, len(args)); err != nil {
		return err
	}
	env, display := env.withBars()
	defer display.Close()
	places, machines, err := look(env, env.newLog(slog.LevelWarn), v.reach, []string{args[0], o.from})
	if err != nil {
		return err
	}
	defer machines.Close()
	order := repair.Order{DryRun: o.dryRun}
	h, path := machines.At(places[0])
	from, source := machines.At(places[1])
	if err := order.Find(ctx, h, path, from, source); err != nil {
		return err
	}
	shown := display.Start(ctx, "reading "+order.Backup.String(), nil)
	var read int64
	order.Progress = func(n int64) {
		read += n
		shown.Set(read)
	}
	r, err := repair.Run(ctx, order)
	shown.Vanish()
	if err != nil && len(r.Blocks) == 0 {
		return err
	}
	if v.json {
		err = errors.Join(err, report.WriteJSON(env.stdout, r))
	} else {
		_, printErr := fmt.Fprint(env.stdout, r)
		err = errors.Join(err, printErr)
	}
	if r.Left() > 0 {
		env.tell("hint", r.WayOn())
	}
	if err == nil && (r.Left() > 0 || r.DryRun && len(r.Blocks) > 0) {
		return statusError(exitDiffer)
	}
	return err
}
