package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/adopt"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
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
	f.StringVarP(&o.Folder, "snapshot-folder", "f", job.Default().Subvolume.Folder, "`FOLDER` in a DEST that is a source")
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
			failures = append(failures, tellAdopted(env.stdout, r, err))
		}
	}
	if o.json {
		failures = append(failures, report.WriteJSON(env.stdout, reports))
	}
	return errors.Join(failures...)
}

// short gives as much of a UUID as is needed to choose by.
func short(uuid btrfs.UUID) string {
	if uuid.IsZero() {
		return "-"
	}
	return uuid.String()[:adopt.LeastUUID]
}

// tellAdopted shows what a place holds where that is of interest, and what was adopted.
func tellAdopted(w io.Writer, r adopt.Report, failure error) error {
	if (failure != nil || r.DryRun) && len(r.Histories) > 0 {
		fmt.Fprintf(w, "%s holds backups of\n", progress.Line(r.Place))
		rows := [][]string{{"UUID", "BACKUPS", "OLDEST", "NEWEST", "SOURCE"}}
		for _, h := range r.Histories {
			of := cmp.Or(progress.Name(h.Of), "unknown")
			if h.Own {
				of += " (its own)"
			}
			rows = append(rows, []string{short(h.UUID), fmt.Sprint(h.Backups), h.Oldest.Format(time.DateOnly), progress.Name(h.Name), of})
		}
		if err := report.WriteColumns(w, rows); err != nil {
			return err
		}
	}
	if failure != nil {
		return nil
	}
	what, until := "counts as its own from now on", r.Adopted()
	if until != 1 {
		what = "count as its own from now on"
	}
	if r.DryRun {
		what = "would count as its own"
	}
	line := fmt.Sprintf("there is nothing to adopt for %s", progress.Line(r.Source))
	if until > 0 {
		line = fmt.Sprintf("%s continues another source: %s %s", progress.Line(r.Source), report.Count(until, "backup"), what)
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", progress.Line(r.Place), line)
	return err
}
