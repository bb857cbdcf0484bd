package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/when"
)

// restoreOptions are common to all ways to get data back.
type restoreOptions struct {
	at     string
	until  time.Time // that at means; zero: none
	dryRun bool
	noWait bool
	limit  arguments.Rate
	reach  job.Reach
	output outputOptions
	ways   []restoreWay
	whole  *wholeRestore  // the way if no other is asked for
	single *fileRestore   // the way if a second argument turns out to be a file
	stored *storedRestore // the way if BACKUP is in a store
}

// A restoreWay is one way to get data back.
type restoreWay interface {
	// define defines the options of this way alone.
	define(f *pflag.FlagSet)
	// isAsked tells that the options ask for this way.
	isAsked() bool
	restore(ctx context.Context, env environment, o *restoreOptions, args []string) error
}

func newRestore(env environment) *cobra.Command {
	whole, single := &wholeRestore{}, &fileRestore{}
	streams := &streamsRestore{whole: whole}
	o := &restoreOptions{reach: job.Default().Reach, whole: whole, single: single, stored: &storedRestore{streams: streams},
		ways: []restoreWay{streams, single, whole}}
	c := &cobra.Command{
		Use:   "restore [options] BACKUP [TARGET]",
		Short: "Get data back from a backup",
		Example: `  btrfs-backup restore /mnt/usb/home/20261121-044803 /mnt/new/home
  btrfs-backup restore --at '3 days ago' nas:/backup/home /mnt/new/home
  btrfs-backup restore --in-place /mnt/usb/home/.latest /home
  btrfs-backup restore --at yesterday nas:/backup/home /home/me/thesis.tex
  btrfs-backup restore /mnt/usb/home/.latest --path me/docs --to /tmp
  btrfs-backup restore -i usb.key s3://bucket/pc --at 2026-11-21 /mnt/new/home`,
		Long: `Make TARGET a subvolume that holds what the BACKUP of a subvolume does. What
TARGET's filesystem has of it already is not sent. The copy that comes back
becomes a snapshot of TARGET, so that backups of TARGET go on as increments, and
as one history with those before. With --at, BACKUP is a folder of backups.
A copy by rsync comes back as a directory where there are no subvolumes.

A BACKUP in a store is STORE/SOURCE/NAME. Without NAME it is the newest, or that
of --at; a store of one source needs no SOURCE. What is to be fetched is told
before. What is in an archive is called back, and the status is 75.

With --path, or a TARGET that is the path of a file as it was, only that comes
back, with all that it had. If it exists, NAME.restored-DATE is written beside.`,
		RunE: func(c *cobra.Command, args []string) error { return o.restore(c.Context(), env, args) },
	}
	f := c.Flags()
	f.StringVar(&o.at, "at", "", "the newest one until `DATE` in the folder BACKUP")
	o.stored.define(f)
	for _, way := range o.ways {
		way.define(f)
	}
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done, change nothing")
	f.BoolVar(&o.noWait, "no-wait", false, "fail with status 75 while a run holds the lock")
	f.BoolVar(&o.output.json, "json", false, "print a report in JSON on standard output")
	o.output.defineVerbosity(f)
	f.Lookup("verbosity").Usage = "`LEVEL`: one from debug to error" // else the line is too long beside these
	o.output.defineQuiet(f)
	f.BoolVarP(&o.output.noProgress, "no-progress", "P", false, "show no progress")
	defineReach(&o.reach, f)
	f.Var(&o.limit, "rate-limit", "at most `RATE` bytes a second, such as 10M")
	help.Grouped(f, help.FurtherTitle, func(f *pflag.FlagSet) {
		o.stored.defineFurther(f)
		defineFurtherReach(&o.reach, f)
	})
	return c
}

// restore goes the way that is asked for; without any, a whole subvolume is restored.
func (o *restoreOptions) restore(ctx context.Context, env environment, args []string) error {
	outlivePipes()
	var c job.Complaints
	checkVerbosity(o.output.verbosity, &c)
	if o.at != "" {
		span, err := when.Parse(o.at, env.now())
		if o.until = span.Last; err != nil {
			c = append(c, hint.Complaint{Setting: "at", Err: err})
		}
	}
	if err := slices.Concat(c, o.reach.Check()).Err(); err != nil {
		return err
	}
	if len(args) > 0 && job.IsStore(args[0]) {
		return o.stored.restore(ctx, env, o, args)
	}
	for _, way := range o.ways {
		if way.isAsked() {
			return way.restore(ctx, env, o, args)
		}
	}
	if len(args) == 1 || len(args) == 2 {
		if told, err := o.single.attempt(ctx, env, o, args, true); told {
			return err
		}
	}
	return o.whole.restore(ctx, env, o, args)
}
