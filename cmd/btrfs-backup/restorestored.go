package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/time/rate"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/power"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/stored"
	"github.com/btrfs-backup/btrfs-backup/internal/retrieval"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// storedRestore restores from a store.
type storedRestore struct {
	streams *streamsRestore
	reading readingOptions
	price   float64
	scratch string
}

func (s *storedRestore) define(f *pflag.FlagSet) {
	f.StringArrayVarP(&s.reading.identities, "identity", "i", nil, "`FILE` of a secret key for a store, - types one")
	f.Float64Var(&s.price, "egress-price", 0, "tell the cost of fetching, at `PRICE` for a GiB")
}

func (s *storedRestore) defineFurther(f *pflag.FlagSet) {
	f.StringVar(&s.scratch, "scratch", "", "take files of a store out in `DIR`, on a btrfs")
	s.reading.defineReading(f)
}

// check complains of what does not fit together. What is to be opened beside the store is given.
func (s *storedRestore) check(o *restoreOptions, args []string) (places []string, err error) {
	switch {
	case s.streams.files || s.streams.command != "":
		return nil, misused("a store is no stream", "leave out --streams and --from-stream")
	case job.IsStore(o.single.to):
		return nil, misused(o.single.to+" is a store, and no directory", "name a directory: --to DIR")
	case o.single.isAsked() && o.single.to != "":
		return []string{o.single.to}, o.single.check(o, args)
	case o.single.isAsked():
		return nil, o.single.check(o, args)
	case len(args) != 2:
		return nil, misused("BACKUP and TARGET are needed", "usage: btrfs-backup restore -i KEY "+strings.Join(args, " ")+" TARGET; more with --help")
	case job.IsStore(args[1]):
		return nil, misused(args[1]+" is a store, and no TARGET", "name a new subvolume")
	case s.streams.keep && o.whole.order.InPlace:
		return nil, misused("--keep-chain makes no subvolume, and so replaces none", "leave out --in-place")
	}
	return args[1:], nil
}

func (s *storedRestore) restore(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	beside, err := s.check(o, args)
	if err != nil {
		return err
	}
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	places, machines, err := lookAtAll(env, log, o.reach, s.reading, "", append([]string{job.WithoutLatest(args[0])}, beside...))
	if err != nil {
		return err
	}
	defer machines.Close()
	machines.Limit = rate.Limit(o.limit)
	f := stored.From{Until: o.until, Price: s.price}
	if f.Found, f.Trust, err = machines.FindTrusted(ctx, places[0].(job.Store)); err != nil {
		return err
	}
	var ids seal.Identities
	f.Identities = func(ctx context.Context) (_ seal.Identities, err error) {
		if ids == nil { // who types one does so once
			ids, err = stored.ReadIdentities(ctx, env.prompt(), s.reading.identities)
		}
		return ids, err
	}
	f.Tell = func(line string) {
		if !o.output.json && !o.output.quiet {
			fmt.Fprintln(env.stdout, progress.Line(line))
		}
	}
	if !o.dryRun {
		defer power.KeepAwake(log, "a backup is being restored")()
	}
	order := o.whole.order
	order.Settings = engine.Settings{NoWait: o.noWait, DryRun: o.dryRun, Log: log, Now: env.now, State: lock.State{Dir: lock.StateDir()}}
	order.Progress = display
	if !f.Found.IsLimited() {
		order.RateLimit = rate.Limit(o.limit)
	}
	if o.single.isAsked() {
		return s.files(ctx, env, o, f, order, machines, places[1:], args[1:])
	}
	order.To, order.Target = machines.At(places[1])
	did, err := stored.Run(ctx, stored.Whole{Order: order, From: f, Keep: s.streams.keep, Named: len(s.reading.identities) > 0})
	if meant := new(stored.FilesError); errors.As(err, &meant) && !o.whole.isAsked() && !s.streams.keep {
		return s.files(ctx, env, o, f, order, machines, nil, []string{meant.Path})
	}
	if err != nil {
		return err
	}
	return o.tell(env, did)
}

// files restores single files: --path, and one that is named as it was.
func (s *storedRestore) files(ctx context.Context, env environment, o *restoreOptions, f stored.From, order restore.Order, machines *job.Machines,
	places []job.Place, more []string) error {
	files := stored.Files{Order: order, From: f, Paths: slices.Concat(o.single.paths, more)}
	here, at := machines.At(job.Local{Path: s.scratch})
	var to string // where the files go on this machine
	if len(places) > 0 {
		if local, ok := places[0].(job.Local); ok {
			to = local.Path
		}
	}
	files.To, files.Scratch = here, stored.ScratchOr(at, to)
	e, err := stored.Extract(ctx, &files)
	if err != nil || o.dryRun {
		return err
	}
	ask := retrieval.Ask{Order: retrieval.Order{Backup: e.Found, Paths: files.Paths, Overwrite: o.single.overwrite, Passing: true}, Here: here}
	if len(places) > 0 {
		ask.To.Host, ask.To.Dir = machines.At(places[0])
	}
	found, err := ask.Resolve(ctx)
	if err == nil {
		err = o.single.run(ctx, env, o, order.Log, order.Progress, found)
	}
	return errors.Join(err, e.Close())
}

// tell prints what was restored.
func (o *restoreOptions) tell(env environment, did interface{ Write(w io.Writer) error }) error {
	switch {
	case o.output.json:
		return report.WriteJSON(env.stdout, did)
	case o.output.quiet:
		return nil
	}
	return did.Write(env.stdout)
}
