package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/versions"
)

type diffOptions struct {
	listOptions
	stat bool
}

func newDiff(env environment) *cobra.Command {
	o := &diffOptions{listOptions: listOptions{reach: job.Default().Reach}}
	c := &cobra.Command{
		Use:   "diff [options] A [B]",
		Short: "Show what changed between two snapshots or backups",
		Example: `  btrfs-backup diff /mnt/usb/home/20261121-044803 /mnt/usb/home/.latest
  btrfs-backup diff --stat /home            sums of the last two snapshots
  btrfs-backup diff nas:/backup/home        the last two backups there`,
		Long: `Show what changed from A to B. Each is a snapshot or backup, or the same path in
two of them; a single folder or source stands for its last two. Subvolumes on
one filesystem are compared without reading them, copies by rsync by their
manifests, and so are backups on two machines, unless one has a copy of the
other's beside it. Exit status 0, whether or not something differs. Letters:
` + versions.Legend + ".",
		Args: needPlace("A"),
		RunE: func(c *cobra.Command, args []string) error { return o.diff(c.Context(), env, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.stat, "stat", false, "show the sums only")
	o.listOptions.define(f)
	return c
}

func (o *diffOptions) diff(ctx context.Context, env environment, texts []string) error {
	if len(texts) > 2 {
		return misused("two are compared, not "+report.Count(len(texts), "place"), "usage: btrfs-backup diff [options] A [B]")
	}
	places, machines, err := look(env, env.newLog(slog.LevelWarn), o.reach, texts)
	if err != nil {
		return err
	}
	defer machines.Close()
	var found [2]inventory.Found
	h, path := machines.At(places[0])
	if len(places) == 1 {
		found[0], found[1], err = versions.LastTwo(ctx, h, path, o.folder, o.prefix)
	} else if found[0], err = inventory.FindVersion(ctx, h, path, o.folder); err == nil {
		h, path = machines.At(places[1])
		found[1], err = inventory.FindVersion(ctx, h, path, o.folder)
	}
	if err != nil {
		return err
	}
	pairs, err := versions.Pairs(ctx, found[0], found[1])
	if err != nil {
		return err
	}
	all := []versions.Difference{}
	for _, p := range pairs {
		d, err := p.Compare(ctx, o.stat)
		if err != nil {
			return err
		}
		if all = append(all, d); !o.json {
			if err := d.Print(env.stdout, o.stat); err != nil {
				return err
			}
		}
	}
	if o.json {
		return report.WriteJSON(env.stdout, all)
	}
	return nil
}
