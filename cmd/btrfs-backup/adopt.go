package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/adopt"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

type adoptOptions struct {
	adopt.Options
	json  bool
	reach job.Reach
}

func newAdopt(env environment) *cobra.Command {
	o := &adoptOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "adopt [options] SOURCE DEST...",
		Short: "Let a source go on with the history of what it was before",
		Example: "  btrfs-backup adopt /home /mnt/usb/home           if there is one other source\n" +
			"  btrfs-backup adopt --of laptop:/home /home nas:/backup/home",
		Long: `Record in each DEST that SOURCE continues another source: one that was restored
by hand or made anew, a directory that was moved, or a machine that was set up
anew. Its backups count as those of SOURCE in retention and lists from then on.
What is sent is not changed by it: the next backup is an increment if SOURCE has
a snapshot, or a received copy, of which DEST has a backup.

A source that lives is not adopted: a clone and its template have a history
each. One that is backed up again after it was adopted has its own again.
Nothing is deleted now. --dry-run shows what DEST holds.`,
		Args: needPlaces,
		RunE: func(c *cobra.Command, args []string) error { return o.adopt(c.Context(), env, args) },
	}
	f := c.Flags()
	f.StringArrayVar(&o.Of, "of", nil, "adopt `SOURCE`: its name, UUID, or a backup of it")
	f.BoolVar(&o.Force, "force", false, "adopt also what seems to live")
	f.StringVarP(&o.Folder, "snapshot-folder", "f", job.Default().Subvolume.Folder, "`FOLDER` of a source as DEST")
	f.BoolVar(&o.DryRun, "dry-run", false, "show what DEST holds, change nothing")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
	return c
}

// needPlaces refuses a command line without a source and a destination.
func needPlaces(c *cobra.Command, args []string) error {
	if len(args) == 1 {
		return needPlace("DEST")(c, nil)
	}
	return needPlace("SOURCE")(c, args)
}

func (o *adoptOptions) adopt(ctx context.Context, env environment, args []string) error {
	o.Log = env.newLog(slog.LevelInfo)
	places, machines, err := look(env, o.Log, o.reach, args)
	if err != nil {
		return err
	}
	defer machines.Close()
	h, path := machines.At(places[0])
	source, err := adopt.OpenSource(ctx, h, path)
	if err != nil {
		return err
	}
	reports := []adopt.Report{}
	var failures []error
	for _, place := range places[1:] {
		h, path := machines.At(place)
		r, err := source.In(ctx, h, path, o.Options)
		reports, failures = append(reports, r), append(failures, err)
		if !o.json {
			failures = append(failures, r.Write(env.stdout, err == nil))
		}
	}
	if o.json {
		failures = append(failures, report.WriteJSON(env.stdout, reports))
	}
	return errors.Join(failures...)
}
