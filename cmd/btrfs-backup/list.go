package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/report"
)

type listOptions struct {
	folder string
	prefix string
	json   bool
	uuid   bool
	reach  job.Reach
}

func newList(env environment) *cobra.Command {
	o := &listOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "list [options] PLACE...",
		Short: "Show the snapshots and backups of places",
		Example: "  btrfs-backup list /home nas:/backup/home    snapshots of /home, its backups\n" +
			"  btrfs-backup list /mnt/usb                  the folders of backups in it",
		Long: `Show the subvolumes in each PLACE, here or on another machine: the folder of a
destination, or a source, which stands for its snapshot folder. Of another
directory, show which folders of backups are in it, and in what is in it. Sizes
are known of backups made by rsync, and where quotas are enabled. What somebody
altered since it was taken or received is marked; it is no backup any more.`,
		Args: needPlace("PLACE"),
		RunE: func(c *cobra.Command, args []string) error { return list(c.Context(), env, o, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.uuid, "uuid", false, "show UUIDs, too; --json has all")
	o.define(f)
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

func list(ctx context.Context, env environment, o *listOptions, places []string) error {
	contents, errs, err := o.contents(ctx, env, places)
	if err != nil {
		return err
	}
	table := listTable{env.stdout, o.prefix, o.uuid, env.now()}
	all := []inventory.Entry{}
	var failures []error
	for i, content := range contents {
		if errs[i] != nil {
			failures = append(failures, errs[i])
			continue
		}
		entries := content.Entries(o.prefix)
		all = append(all, entries...)
		for _, below := range content.Below {
			all = append(all, below.Entries(o.prefix)...)
		}
		if o.json {
			continue
		}
		if err := table.print(content, entries); err != nil {
			return err
		}
	}
	if o.json {
		failures = append(failures, report.WriteJSON(env.stdout, all))
	}
	return errors.Join(failures...)
}

// contents lists the places, all at once, since some may be far away.
func (o *listOptions) contents(ctx context.Context, env environment, texts []string) ([]inventory.Place, []error, error) {
	if filepath.IsAbs(o.folder) {
		return nil, nil, misused("--snapshot-folder is relative to a source here", "name a folder outside the source as a PLACE")
	}
	log := env.newLog(slog.LevelWarn)
	places, machines, err := look(env, log, o.reach, texts)
	if err != nil {
		return nil, nil, err
	}
	defer machines.Close()
	contents, errs := make([]inventory.Place, len(places)), make([]error, len(places))
	var listing sync.WaitGroup
	for i, p := range places {
		h, path := machines.At(p)
		listing.Go(func() { contents[i], errs[i] = inventory.Look(ctx, h, path, o.folder) })
	}
	listing.Wait()
	return contents, errs, nil
}
