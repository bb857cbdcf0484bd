package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/internal/versions"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

func newVersions(env environment) *cobra.Command {
	o := &listOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "versions [options] FILE [PLACE...]",
		Short: "Show which versions of a file snapshots and backups hold",
		Example: `  btrfs-backup versions /home/me/thesis.tex
  btrfs-backup versions /home/me/thesis.tex /mnt/usb/home nas:/backup/home
  btrfs-backup versions /mnt/usb/home/20261121-044803/me/thesis.tex`,
		Long: `Show a line for each content that FILE had, the newest first: in the snapshots
of its source, and in the backups at all destinations on record, or those in
each PLACE. FILE is a path at the source, where it need not be any more, or in a
snapshot or backup. A file that was renamed is followed under its former names,
which needs root. Nothing is read but small files and what is known of others:
two versions of one size are told apart by when they were modified, and by
where their content is on the disk. Exit status 3 tells that a place could not
be looked into.`,
		Args: needPlace("FILE"),
		RunE: func(c *cobra.Command, args []string) error { return showVersions(c.Context(), env, o, args) },
	}
	f := c.Flags()
	f.StringVarP(&o.folder, "snapshot-folder", "f", job.Default().Subvolume.Folder, "`FOLDER` in the source")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
	return c
}

func showVersions(ctx context.Context, env environment, o *listOptions, texts []string) error {
	places, machines, err := look(env, env.newLog(slog.LevelWarn), o.reach, texts)
	if err != nil {
		return err
	}
	defer machines.Close()
	at := func(p job.Place) (versions.At, error) {
		switch p.(type) {
		case job.Local, job.Machine:
			h, path := machines.At(p)
			return versions.At{Host: h, Path: path}, nil
		case job.Command:
			return versions.At{}, fmt.Errorf("%s (a command: `restore --from-stream` gets from it what it stored)", p)
		}
		return versions.At{}, fmt.Errorf("%s (a daemon, or an encrypted store, which tells nothing of its files)", p)
	}
	file, _ := at(places[0])
	search := versions.Search{File: file, SnapshotFolder: o.folder, Places: texts[1:]}
	search.Resolve = func(text string) (versions.At, error) {
		p, err := job.ParsePlace(text)
		if err != nil {
			return versions.At{}, err
		}
		return at(p)
	}
	c, _ := lookInto("") // what is wrong with it, or is missing, is of no importance here
	state := env.ofJob(env.newLog(slog.LevelWarn), nil).State
	runs, _ := report.History{Dir: state}.Runs()
	used, _ := lock.State{Dir: state}.Used()
	for _, r := range standing.RecordedSources(c, runs, used) {
		if at, err := search.Resolve(r.Source); err == nil {
			search.Known = append(search.Known, versions.Known{Source: at, Destinations: r.Destinations})
		}
	}
	found, err := search.Files(ctx)
	if err != nil && found.Looked == 0 {
		return err
	}
	complain(env, err)
	print := found.Print
	if o.json {
		print = func(w io.Writer) error { return report.WriteJSON(w, found) }
	}
	if printErr := print(env.stdout); printErr != nil || err == nil {
		return printErr
	}
	return statusError(exitPartly)
}
