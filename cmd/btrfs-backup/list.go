package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

type listOptions struct {
	config string
	folder string
	prefix string
	json   bool
	uuid   bool
	wide   bool
	space  bool
	reach  job.Reach
	readingOptions
}

func newList(env environment) *cobra.Command {
	o := &listOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "list [options] PLACE...",
		Short: "Show the snapshots and backups of places",
		Example: "  btrfs-backup list /home nas:/backup/home    snapshots of /home, its backups\n" +
			"  btrfs-backup list /mnt/usb                  the folders of backups in it\n" +
			"  btrfs-backup list s3://bucket/home          the sources in a store",
		Long: `Show the snapshots and backups in each PLACE, here or on another machine: the
folder of a destination, or a source, which stands for its snapshot folder. Of
another directory, show which folders of backups are in it, of what sources.
SENT is what it took to send a backup. FREED is how much data deleting that one
alone would free: exact, and known without quotas. Where that takes long, it is
left out without --space. What somebody altered since it was taken or received
is marked; it is no backup any more. Of a store, show its sources, and of
STORE/SOURCE the backups: SENT is what each takes there.`,
		Args: needPlace("PLACE"),
		RunE: func(c *cobra.Command, args []string) error { return list(c.Context(), env, o, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.space, "space", false, "tell FREED however long it takes")
	f.BoolVar(&o.wide, "wide", false, "more columns, in long lines")
	f.BoolVar(&o.uuid, "uuid", false, "show UUIDs, too; --json has all")
	o.define(f)
	o.defineReading(f)
	defineIdentities(&o.identities, f)
	return c
}

// define defines what is looked at, and how.
func (o *listOptions) define(f *pflag.FlagSet) {
	f.StringVarP(&o.prefix, "snapshot-prefix", "p", "", "show only names that begin with `PREFIX`")
	f.StringVarP(&o.folder, "snapshot-folder", "f", job.Default().Subvolume.Folder, "`FOLDER` in a source")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
}

// quickly is how long a list may take to find out what deleting would free, unless that is asked for.
const quickly = time.Second

func list(ctx context.Context, env environment, o *listOptions, texts []string) error {
	places, machines, errs, err := o.look(ctx, env, texts)
	if err != nil {
		return err
	}
	defer machines.Close()
	within := quickly
	if o.space {
		within = 0
	}
	table := inventory.Table{W: env.stdout, Prefix: o.prefix, Wide: o.wide, UUID: o.uuid, Now: env.now()}
	all := []inventory.Entry{}
	for i, place := range places {
		if errs[i] != nil {
			continue
		}
		listed, err := place.Survey(ctx, o.prefix, within)
		errs[i] = err
		all = append(all, slices.Concat(listed.Entries, listed.Below)...)
		if !o.json {
			errs = append(errs, table.Write(place, listed))
		}
	}
	if o.json {
		errs = append(errs, report.WriteJSON(env.stdout, all))
	}
	return errors.Join(errs...)
}

// look lists the places, all at once, since some may be far away.
func (o *listOptions) look(ctx context.Context, env environment, texts []string) ([]inventory.Place, *job.Machines, []error, error) {
	places, machines, err := lookAtAll(env, env.newLog(slog.LevelWarn), o.reach, o.readingOptions, o.config, texts)
	if err != nil {
		return nil, nil, nil, err
	}
	contents, errs := make([]inventory.Place, len(places)), make([]error, len(places))
	var listing sync.WaitGroup
	for i, p := range places {
		listing.Go(func() { contents[i], errs[i] = machines.Look(ctx, p, o.folder) })
	}
	listing.Wait()
	return contents, machines, errs, nil
}
