package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/verify"
)

type relinkOptions struct {
	to     string
	dryRun bool
	json   bool
	reach  job.Reach
}

func newRelink(env environment) *cobra.Command {
	o := &relinkOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "relink [options] BACKUP --to SNAPSHOT",
		Short: "Let an altered backup count again, if it equals its snapshot",
		Example: `  btrfs-backup relink /mnt/usb/home/20261121-044803 \
      --to /home/snapshot/20261121-044803`,
		Long: `Compare BACKUP with SNAPSHOT in everything, each read on its machine, and if
they are equal let BACKUP count as a copy of it again: as a backup, and as a
parent of increments. "list" tells which need it: what was made writable lost
its Received UUID, or was altered. If it is SNAPSHOT that was altered and put
right, the same command helps: the mark is at BACKUP.

If they differ, the differences are printed, nothing is changed, and the exit
status is 4.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || o.to == "" {
				return misused("relink needs a BACKUP and --to SNAPSHOT", "usage: "+c.UseLine()+"; more with --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return relink(c.Context(), env, o, args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.to, "to", "", "`SNAPSHOT` that it is to be a copy of")
	f.BoolVar(&o.dryRun, "dry-run", false, "compare only")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
	return c
}

func relink(ctx context.Context, env environment, o *relinkOptions, backup string) error {
	env, display := env.withBars()
	defer display.Close()
	found, machines, err := look(env, env.newLog(slog.LevelWarn), o.reach, []string{backup, o.to})
	if err != nil {
		return err
	}
	defer machines.Close()
	places := machines.Trees(found)
	r, err := verify.Relink(ctx, places[0], places[1], o.dryRun, env.verifying(display, o.json))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case o.json:
		err = report.WriteJSON(env.stdout, r)
	case r.Failure == nil:
		fmt.Fprintln(env.stdout, r.Summary())
	}
	if err != nil {
		return err
	}
	return verdictOf(env, []verify.Result{r.Result})
}
