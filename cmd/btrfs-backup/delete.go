package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/removal"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/when"
)

type deleteOptions struct {
	older      string
	evenParent bool
	evenMember bool
	removalOptions
}

// removalOptions are common to all that deletes.
type removalOptions struct {
	folder string
	dryRun bool
	json   bool
	reach  job.Reach
}

func (o *removalOptions) define(f *pflag.FlagSet) {
	o.reach = job.Default().Reach
	f.BoolVar(&o.dryRun, "dry-run", false, "make all checks, show what would go, change nothing")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
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

If anything that is named is refused, nothing is deleted. What the next increment
would build upon is refused, and what that means is told. What is not certainly a
snapshot or backup of ours, or is in use, is never deleted. By age, such stay, and
so does the newest complete one.`,
		Args: needPlace("BACKUP"),
		RunE: func(c *cobra.Command, args []string) error { return o.delete(c.Context(), env, args) },
	}
	f := c.Flags()
	f.StringVar(&o.older, "older-than", "", "delete all in the folders that is older than `DATE`")
	f.BoolVar(&o.evenParent, "even-parent", false, "delete what the next increment would build upon, too")
	f.BoolVar(&o.evenMember, "even-member", false, "delete single members of sets")
	f.StringVarP(&o.folder, "snapshot-folder", "f", job.Default().Subvolume.Folder, "`FOLDER` in a source")
	o.removalOptions.define(f)
	return c
}

func (o *deleteOptions) delete(ctx context.Context, env environment, args []string) error {
	outlivePipes()
	var older *when.Span
	if o.older != "" {
		if o.evenParent || o.evenMember {
			return misused("--older-than leaves what the next increment needs, and members of sets", "name those, without --older-than")
		}
		span, err := when.Parse(o.older, env.now())
		if err != nil {
			return job.Complaints{hint.Complaint{Setting: "older-than", Err: err}}
		}
		older = &span
	}
	log := env.newLog(slog.LevelInfo)
	places, machines, err := look(env, log, o.reach, args)
	if err != nil {
		return err
	}
	defer machines.Close()
	options := removal.Options{Log: log, DryRun: o.dryRun, EvenParent: o.evenParent, EvenMember: o.evenMember}
	if older == nil {
		items, err := removal.Run(ctx, named(machines, places), options)
		return o.tell(env, items, err)
	}
	orders, failed := o.inFolders(ctx, machines, places, func(job.Place, inventory.Place) (removal.Choice, error) {
		return removal.Older(*older), nil
	})
	items, err := removal.Run(ctx, orders, options)
	return o.tell(env, items, errors.Join(failed, err))
}

// named gives the orders for backups that are named by their paths.
func named(machines *job.Machines, places []job.Place) (orders []removal.Order) {
	type folder struct {
		host host.Trees
		path string
	}
	names := make(map[folder]removal.Named)
	var folders []folder
	for _, p := range places {
		h, at := machines.At(p)
		in := folder{h, path.Dir(at)}
		if _, again := names[in]; !again {
			folders = append(folders, in)
		}
		names[in] = append(names[in], path.Base(at))
	}
	for _, f := range folders {
		orders = append(orders, removal.Order{Host: f.host, Folder: f.path, Choice: names[f]})
	}
	return orders
}

// inFolders gives the orders for all folders that places stand for.
func (o *removalOptions) inFolders(ctx context.Context, machines *job.Machines, places []job.Place,
	choose func(job.Place, inventory.Place) (removal.Choice, error),
) (orders []removal.Order, err error) {
	var errs []error
	for _, p := range places {
		h, at := machines.At(p)
		found, err := inventory.Look(ctx, h, at, o.folder)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, folder := range found.Folders() {
			choice, err := choose(p, folder)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			orders = append(orders, removal.Order{Host: h, Folder: folder.Path, Choice: choice})
		}
	}
	return orders, errors.Join(errs...)
}

// tell prints what was deleted, and gives the error that the command ends with.
func (o *removalOptions) tell(env environment, items []removal.Item, err error) error {
	gone := slices.ContainsFunc(items, func(i removal.Item) bool { return i.Deleted })
	if o.json {
		if items == nil {
			items = []removal.Item{}
		}
		if err := report.WriteJSON(env.stdout, items); err != nil {
			return err
		}
	} else if err == nil || gone {
		o.print(env, items)
	}
	if err != nil && gone {
		complain(env, err)
		return statusError(exitPartly)
	}
	return err
}

func (o *removalOptions) print(env environment, items []removal.Item) {
	verb, deleted := "deleted", 0
	if o.dryRun {
		verb = "would delete"
	}
	for _, i := range items {
		line := fmt.Sprintf("kept %s: %s", itemPath(i), strings.Join(i.Reasons, ", "))
		if i.Deleted {
			deleted++
			line = verb + " " + itemPath(i)
			if i.Kind == inventory.Set {
				line = verb + " the set " + itemPath(i)
			}
			if i.Freed != nil {
				line += ", which frees " + progress.Bytes(int64(*i.Freed))
			}
			for _, meaning := range i.Means {
				line += "\n  " + progress.Line(meaning)
			}
		}
		fmt.Fprintln(env.stdout, line)
	}
	if deleted == 0 {
		fmt.Fprintln(env.stdout, "nothing is to be deleted")
	} else if deleted > 1 {
		fmt.Fprintf(env.stdout, "%s %d\n", verb, deleted)
	}
}

func itemPath(i removal.Item) string { return progress.Line(i.Place) + "/" + progress.Name(i.Name) }
