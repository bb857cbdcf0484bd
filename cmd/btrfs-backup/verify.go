package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/verify"
)

type verifyOptions struct {
	fast    bool
	all     bool
	subset  string
	against string
	export  bool
	json    bool
	repair  repairOptions
	stored  storedVerify
	reach   job.Reach
}

func newVerify(env environment) *cobra.Command {
	o := &verifyOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "verify [options] BACKUP...",
		Short: "Read backups, and compare them with what they were",
		Example: `  btrfs-backup verify /mnt/usb/home/20261121-044803     read all of it
  btrfs-backup verify nas:/b/home/.latest --against /home/snapshot/.latest
  btrfs-backup verify --fast nas:/backup/etc/.latest    no contents again
  btrfs-backup verify --subset 1/30 /mnt/usb/home/.latest
  btrfs-backup verify --repair-from /home/snapshot/NAME nas:/b/home/NAME
  cd /mnt/usb/etc/.latest && btrfs-backup verify --export . | sha256sum -c`,
		Long: `Read each BACKUP, and compare it with its manifest: files missing or added,
types, sizes, times, modes, owners, symbolic and hard links, extended attributes
with ACLs, contents. rsync's backups have a manifest from when they were made;
that of a subvolume is made by the first verification that can read all of it.
The filesystem compares its checksums with all that is read: where the disk does
not give a block, its place in the file is told, and the rest is read.

A set stands for the backups of all its members, and a folder of sets for all of
them. Objects in a STORE, or STORE/SOURCE, are compared with checksums that the
store computes; with --download they are fetched, and --restore restores backups
into a hidden directory for a while, and compares them with snapshots left here.
Exit status 4 tells that something differs, or is damaged.`,
		Args: needPlace("BACKUP"),
		RunE: func(c *cobra.Command, args []string) error {
			if o.repair.isAsked() {
				return o.repair.run(c.Context(), env, o, args)
			}
			return verifyBackups(c.Context(), env, o, args)
		},
	}
	f := c.Flags()
	f.StringVar(&o.against, "against", "", "compare with `SNAPSHOT`, or a directory")
	f.BoolVar(&o.fast, "fast", false, "do not read contents that were verified before")
	f.BoolVar(&o.all, "all", false, "BACKUP is a folder: verify all, newest first")
	f.StringVar(&o.subset, "subset", "", "read `PART` of contents: 1/30, another each day")
	o.repair.define(f)
	o.stored.define(f)
	f.BoolVar(&o.export, "export", false, "print the list that sha256sum -c takes")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
	return c
}

// options gives what is asked for, or what is wrong with it.
func (o *verifyOptions) options(env environment, backups int) (v verify.Options, err error) {
	v.Fast = o.fast
	switch {
	case o.against != "" && (o.fast || o.all || o.subset != "" || o.export):
		return v, misused("--against compares all of a backup", "leave out --all, --fast, --subset and --export")
	case o.against != "" && backups > 1:
		return v, misused("--against is about one BACKUP", "compare each by itself")
	case o.fast && o.subset != "":
		return v, misused("--fast and --subset exclude each other", "choose one of them")
	case o.subset != "":
		v.Part, err = tree.ParsePart(o.subset, env.now())
	}
	if err != nil {
		return v, misused("--subset: "+err.Error(), "1/30 reads all within 30 days, if it is done every day")
	}
	return v, nil
}

func verifyBackups(ctx context.Context, env environment, o *verifyOptions, texts []string) error {
	options, err := o.options(env, len(texts))
	if err != nil {
		return err
	}
	env, display := env.withBars()
	defer display.Close()
	if o.against != "" {
		texts = append(texts, o.against)
	}
	found, machines, err := lookAtAll(env, env.newLog(slog.LevelWarn), o.reach, o.stored.readingOptions, "", texts)
	if err != nil {
		return err
	}
	defer machines.Close()
	told := env.verifying(display, o.json)
	if areStored, err := job.AreStores(found); err != nil {
		return misused(err.Error(), hint.Of(err))
	} else if areStored {
		return o.verifyStored(ctx, env, machines, found, told)
	} else if o.stored.Download || o.stored.Restore || o.stored.Scratch != "" {
		return misused("--download, --restore and --scratch are for backups in stores", "without them all of a backup is read")
	}
	places := machines.Trees(found)
	if o.export {
		for _, p := range places {
			if err := verify.Export(ctx, p.Host, p.Path, env.data); err != nil {
				return err
			}
		}
		return nil
	}
	all := []verify.Result{}
	if o.against != "" {
		all = append(all, verify.Against(ctx, places[0], places[1], told))
		told.Done(all[0])
	} else if o.all {
		all, err = verify.Folders(ctx, places, options, told)
	} else {
		all, err = verify.Backups(ctx, places, options, told)
	}
	if err != nil {
		return err
	}
	return o.conclude(ctx, env, all)
}

func (o *verifyOptions) conclude(ctx context.Context, env environment, all []verify.Result) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if o.json {
		if err := report.WriteJSON(env.stdout, all); err != nil {
			return err
		}
	}
	return verdictOf(env, all)
}

// verdictOf tells every failure, and gives an error unless every backup is as it was made.
func verdictOf(env environment, all []verify.Result) error {
	failed := false
	for _, r := range all {
		if r.Failure != nil {
			complain(env, r.Failure.Err)
			failed = true
		}
	}
	if forward := verify.WayOn(all); forward != "" {
		env.tell("hint", forward)
	}
	switch {
	case verify.Differs(all):
		return statusError(exitDiffer)
	case failed:
		return statusError(exitFailed)
	}
	return nil
}

// verifying gives what prints what is found.
func (e environment) verifying(display *progress.Display, json bool) verify.Shown {
	return verify.Shown{Out: e.stdout, Display: display, Tell: e.tell, Quiet: json}
}
