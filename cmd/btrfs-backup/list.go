package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/set"
	"btrfs-backup/internal/tree"
	"btrfs-backup/internal/volume"
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
	f.StringVarP(&o.folder, "snapshot-folder", "f", volume.DefaultFolder, "`FOLDER` in a source")
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
	all := []listed{}
	var failures []error
	for i, content := range contents {
		if errs[i] != nil {
			failures = append(failures, errs[i])
			continue
		}
		entries := describe(content, o.prefix)
		all = append(all, entries...)
		for _, below := range content.below {
			all = append(all, describe(below, o.prefix)...)
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

// content is what a place holds.
type content struct {
	volume.Content
	trees tree.Listing // backups made by rsync
	below []content    // of folders of backups in it
	sets  []host.Set   // of backups in these
}

// contents lists the places, all at once, since some may be far away.
func (o *listOptions) contents(ctx context.Context, env environment, texts []string) ([]content, []error, error) {
	if filepath.IsAbs(o.folder) {
		return nil, nil, misused("--snapshot-folder is relative to a source here", "name a folder outside the source as a PLACE")
	}
	log := env.newLog(slog.LevelWarn)
	places, machines, err := look(env, log, o.reach, texts)
	if err != nil {
		return nil, nil, err
	}
	defer machines.Close()
	contents, errs := make([]content, len(places)), make([]error, len(places))
	var listing sync.WaitGroup
	for i, p := range places {
		h, path := machines.At(p)
		listing.Go(func() { contents[i], errs[i] = withBelow(ctx, h, path, o.folder) })
	}
	listing.Wait()
	return contents, errs, nil
}

// withBelow lists a place and the folders of backups in it. One that cannot be listed is as none.
func withBelow(ctx context.Context, h host.Trees, path, snapshotFolder string) (content, error) {
	c, err := contentOf(ctx, h, path, snapshotFolder)
	if err == nil && len(c.trees.Below) > 0 {
		c.sets, err = set.In(ctx, h, path)
	}
	for _, below := range c.trees.Below {
		if inner, innerErr := contentOf(ctx, h, filepath.Join(path, below), ""); innerErr == nil {
			c.below = append(c.below, inner)
		}
	}
	return c, err
}

// withoutRecord is the error about dated entries of which nothing is known; nil if there are none.
func withoutRecord(folder string, names []string) error {
	undated := func(name string) bool { return timeOf(btrfs.Subvolume{Name: name}).IsZero() }
	dated := slices.DeleteFunc(slices.Clone(names), undated)
	if len(dated) == 0 {
		return nil
	}
	return hint.Newf(fmt.Errorf("%s: there is no record of %s", folder, countOf(len(dated), "dated name")),
		"its %s is gone, or another program made them: look into them as into any directory", tree.StateDir)
}

// contentOf lists a place. What is not on btrfs holds backups made by rsync, or nothing of ours.
func contentOf(ctx context.Context, h host.Trees, path, snapshotFolder string) (content, error) {
	var trees tree.Listing
	subvolumes, err := volume.List(ctx, h, path, snapshotFolder)
	if err != nil && !errors.Is(err, btrfs.ErrNotBtrfs) {
		return content{}, err
	}
	dir, treeErr := h.OpenTrees(ctx, path, tree.OpenOptions{})
	if treeErr == nil {
		trees, treeErr = dir.ListTrees(ctx)
		treeErr = errors.Join(treeErr, dir.Close())
	}
	switch {
	case err == nil && subvolumes.Folder != h.String()+path: // the snapshots of a source
		return content{Content: subvolumes}, nil
	case err == nil:
		return content{Content: subvolumes, trees: trees}, nil
	case treeErr != nil:
		return content{}, err
	case trees.ID == "" && len(trees.Below) == 0:
		return content{}, cmp.Or(withoutRecord(h.String()+path, trees.Others), err)
	}
	return content{Content: volume.Content{Folder: h.String() + path, Content: host.Content{Free: trees.Free}}, trees: trees}, nil
}
