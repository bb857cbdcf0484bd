package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/when"
)

type deleteOptions struct {
	older string
	removalOptions
}

// removalOptions are common to all that deletes.
type removalOptions struct {
	removal.Options
	folder string
	json   bool
	reach  job.Reach
	readingOptions
}

func (o *removalOptions) define(f *pflag.FlagSet) {
	o.reach = job.Default().Reach
	f.StringVarP(&o.folder, "snapshot-folder", "f", job.Default().Subvolume.Folder, "`FOLDER` in a source")
	f.BoolVar(&o.DryRun, "dry-run", false, "show what would be deleted, change nothing")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
}

// look is lookAtAll, and sets where is logged.
func (o *removalOptions) look(env environment, config string, texts []string) ([]job.Place, *job.Machines, error) {
	o.Log = env.newLog(slog.LevelInfo)
	return lookAtAll(env, o.Log, o.reach, o.readingOptions, config, texts)
}

func newDelete(env environment) *cobra.Command {
	o := &deleteOptions{}
	c := &cobra.Command{
		Use:   "delete [options] BACKUP...",
		Short: "Delete snapshots, backups and sets of them by name or by age",
		Example: "  btrfs-backup delete /mnt/usb/home/20261120-013000\n" +
			"  btrfs-backup delete --older-than 2y --dry-run nas:/backup/home",
		Long: `Delete each BACKUP: a snapshot, a backup of a subvolume or of a directory, or a
whole set of them, here or on another machine, with all that is on record of it.
With --older-than, each argument is a folder of backups, or a source, which
stands for its snapshot folder.

If anything that is named is refused, nothing is deleted. What the next
increment would build upon is refused, and what that means is told. What is not
certainly a snapshot or backup of ours, or is in use, is never deleted. By age,
such stay, and so does the newest complete one. In a store, BACKUP is
STORE/SOURCE/NAME, and what others there build on is refused as well.`,
		Args: needPlace("BACKUP"),
		RunE: func(c *cobra.Command, args []string) error { return o.delete(c.Context(), env, args) },
	}
	f := c.Flags()
	f.StringVar(&o.older, "older-than", "", "delete all there that is older than `DATE`")
	f.BoolVar(&o.EvenParent, "even-parent", false, "delete what the next increment builds on, too")
	f.BoolVar(&o.EvenMember, "even-member", false, "delete single members of sets")
	o.define(f)
	o.defineReading(f)
	return c
}

func (o *deleteOptions) delete(ctx context.Context, env environment, args []string) error {
	outlivePipes()
	var older removal.Older
	if o.older != "" {
		if o.EvenParent || o.EvenMember {
			return misused("--older-than leaves what the next increment needs, and members of sets", "name those, without --older-than")
		}
		span, err := when.Parse(o.older, env.now())
		if err == nil && span.First.After(env.now()) {
			err = hint.New(fmt.Errorf("%q: this is in the future", o.older), "all but the newest would go: was another date meant?")
		}
		if err != nil {
			return job.Complaints{hint.Complaint{Setting: "older-than", Err: err}}
		}
		older = removal.Older(span)
	}
	places, machines, err := o.look(env, "", args)
	if err != nil {
		return err
	}
	defer machines.Close()
	if o.older == "" {
		orders, err := machines.Named(ctx, places)
		if err != nil {
			return err
		}
		return o.remove(ctx, env, orders, nil)
	}
	orders, err := machines.InFolders(ctx, places, o.folder, func(int) removal.Choice { return older })
	return o.remove(ctx, env, orders, err)
}

// remove carries out orders and tells what was deleted. An error of what is ordered elsewhere stops nothing.
func (o *removalOptions) remove(ctx context.Context, env environment, orders []removal.Order, elsewhere error) error {
	did, err := removal.Run(ctx, orders, o.Options)
	err = errors.Join(elsewhere, err)
	switch {
	case o.json:
		if err := report.WriteJSON(env.stdout, did); err != nil {
			return err
		}
	case err == nil || did.Deleted():
		if err := did.Write(env.stdout, o.DryRun); err != nil {
			return err
		}
	}
	if err != nil && did.Deleted() {
		complain(env, err)
		return statusError(exitPartly)
	}
	return err
}
