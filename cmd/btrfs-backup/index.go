package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

type indexOptions struct {
	reach job.Reach
}

func newIndex(env environment) *cobra.Command {
	o := &indexOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "index [options] DEST...",
		Short: "Find out anew which contents a folder holds, to store none twice",
		Long: `Make the index of contents in each DEST anew: from the manifests of its backups,
which are not read again, and from all other trees that were put there, by hand
or by rsync-time-backup, rsnapshot, rsync-system-backup or PyHardLinkBackup,
which are read. Later backups share space with equal files. Nothing else is
changed.`,
		Example: "  btrfs-backup index /mnt/usb/etc",
		Args:    needPlace("DEST"),
		RunE:    func(c *cobra.Command, args []string) error { return index(c.Context(), env, o, args) },
	}
	f := c.Flags()
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
	return c
}

func index(ctx context.Context, env environment, o *indexOptions, texts []string) error {
	env, display := env.withBars()
	defer display.Close()
	log := env.newLog(slog.LevelInfo)
	places, machines, err := look(env, log, o.reach, texts)
	if err != nil {
		return err
	}
	defer machines.Close()
	for i, p := range places {
		h, path := machines.At(p)
		shown := display.Start(ctx, "reading "+texts[i], nil)
		made, err := indexFolder(ctx, h, path, log, shown.Add)
		shown.Vanish()
		if err != nil {
			return fmt.Errorf("indexing %s: %w", texts[i], err)
		}
		_, err = fmt.Fprintf(env.stdout, "%s: indexed %d contents in %d files of %d trees, %s read\n",
			texts[i], made.Contents, made.Files, made.Trees, progress.Bytes(made.Read))
		if err != nil {
			return err
		}
	}
	return nil
}

func indexFolder(ctx context.Context, h host.Trees, folder string, log *slog.Logger, read func(bytes int64)) (tree.Indexed, error) {
	dir, err := h.OpenTrees(ctx, folder, tree.OpenOptions{})
	if err != nil {
		return tree.Indexed{}, err
	}
	defer dir.Close()
	_, err = dir.Lock(ctx, func(held *lock.HeldError) { log.Info(fmt.Sprintf("%s: waiting for %s", folder, held.Holder())) })
	if err != nil {
		return tree.Indexed{}, err
	}
	return dir.IndexTrees(ctx, tree.IndexOptions{Progress: read})
}
