package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

type forgetOptions struct {
	removalOptions
	neverReached bool
}

func newForget(env environment) *cobra.Command {
	o := &forgetOptions{}
	c := &cobra.Command{
		Use:   "forget [options] SOURCE DEST...",
		Short: "Drop what is on record of destinations that are gone for good",
		Example: "  btrfs-backup forget /home nas:/backup/old\n" +
			"  btrfs-backup forget --never-reached /home",
		Long: `Drop what is on record of each DEST: snapshots of SOURCE that were held for it
may be pruned then, and an empty folder of that name counts as new. DEST is as
it was given to a run, or a typing error; it is not looked at. If one of them is
not on record, nothing is dropped.`,
		Args: needPlace("SOURCE"),
		RunE: func(c *cobra.Command, args []string) error { return o.forget(c.Context(), env, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.neverReached, "never-reached", false, "forget those that never got a backup")
	o.define(f)
	return c
}

func (o *forgetOptions) forget(ctx context.Context, env environment, args []string) error {
	if len(args) == 1 && !o.neverReached {
		return misused("DEST is missing", "`btrfs-backup explain "+args[0]+"` shows what is held for which; or --never-reached")
	}
	o.Log = env.newLog(slog.LevelInfo)
	places, machines, err := look(env, o.Log, o.reach, args[:1])
	if err != nil {
		return err
	}
	defer machines.Close()
	h, at := machines.At(places[0])
	parting := removal.Parting{Host: h, Source: at, Folder: o.folder, NeverReached: o.neverReached, State: lock.State{Dir: lock.StateDir()},
		DryRun: o.DryRun, Log: o.Log}
	for _, text := range args[1:] {
		parting.Destinations = append(parting.Destinations, job.ForsakenOf(text))
	}
	did, err := removal.Forget(ctx, parting)
	if err != nil {
		return err
	}
	if o.json {
		return report.WriteJSON(env.stdout, did)
	}
	_, err = fmt.Fprintln(env.stdout, did)
	return err
}
