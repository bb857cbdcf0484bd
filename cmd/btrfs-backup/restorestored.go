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

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/power"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/restore/stored"
	"btrfs-backup/internal/retrieval"
	"btrfs-backup/internal/seal"
	"btrfs-backup/lock"
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
	f.StringArrayVar(&s.reading.signers, "signer", nil, "let signatures of public `KEY` count")
	defineCredentials(&s.reading.stores, f)
}

// from opens the store, and tells how it is read. The other places are opened as well.
func (s *storedRestore) from(ctx context.Context, env environment, o *restoreOptions, args []string) (f stored.From, places []job.Place,
	machines *job.Machines, err error) {
	at := job.WithoutLatest(args[0])
	log := env.newLog(o.output.level())
	if places, machines, err = lookAtAll(env, log, o.reach, s.reading, "", append([]string{at}, args[1:]...)); err != nil {
		return f, nil, nil, err
	}
	machines.Limit = rate.Limit(o.limit)
	if f.Found, f.Trust, err = machines.FindTrusted(ctx, places[0].(job.Store)); err != nil {
		machines.Close()
		return f, nil, nil, err
	}
	for _, p := range places[1:] {
		if to, isStore := p.(job.Store); isStore {
			machines.Close()
			return f, nil, nil, misused(to.String()+" is a store, and no TARGET", "name a new subvolume")
		}
	}
	f.Until, f.Price = o.until, s.price
	f.Identities = func(ctx context.Context) (seal.Identities, error) {
		return stored.ReadIdentities(ctx, env.prompt(), s.reading.identities)
	}
	f.Tell = func(line string) {
		if !o.output.json && !o.output.quiet {
			fmt.Fprintln(env.stdout, progress.Line(line))
		}
	}
	return f, places[1:], machines, nil
}

func (s *storedRestore) restore(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	if o.single.isAsked() {
		return s.files(ctx, env, o, args)
	}
	switch {
	case s.streams.files || s.streams.command != "":
		return misused("a store is no stream", "leave out --streams and --from-stream")
	case len(args) != 2:
		return misused("BACKUP and TARGET are needed", "usage: btrfs-backup restore -i KEY "+strings.Join(args, " ")+" TARGET; more with --help")
	case s.streams.keep && o.whole.order.InPlace:
		return misused("--keep-chain makes no subvolume, and so replaces none", "leave out --in-place")
	}
	f, places, machines, err := s.from(ctx, env, o, args)
	if err != nil {
		return err
	}
	defer machines.Close()
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	if !o.dryRun {
		defer power.KeepAwake(log, "a backup is being restored")()
	}
	order := o.whole.order
	order.To, order.Target = machines.At(places[0])
	order.Settings = engine.Settings{NoWait: o.noWait, DryRun: o.dryRun, Log: log, Now: env.now, State: lock.State{Dir: machineState()}}
	order.Progress = display
	if !f.Found.IsLimited() {
		order.RateLimit = rate.Limit(o.limit)
	}
	did, err := stored.Run(ctx, stored.Whole{Order: order, From: f, Keep: s.streams.keep})
	if err != nil {
		return err
	}
	return o.tell(env, did)
}

// files restores single files.
func (s *storedRestore) files(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	paths, all := slices.Clone(o.single.paths), args[:1]
	if err := o.single.check(o, args); err != nil {
		return err
	}
	paths = append(paths, args[1:]...) // as it was
	if o.single.to != "" {
		all = append(slices.Clone(all), o.single.to)
	}
	f, places, machines, err := s.from(ctx, env, o, all)
	if err != nil {
		return err
	}
	defer machines.Close()
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	order := stored.Files{From: f, Paths: paths}
	here, at := machines.At(job.Local{Path: s.scratch})
	order.To, order.Progress, order.Scratch = here, display, stored.ScratchOr(at, o.single.to)
	order.Settings = engine.Settings{NoWait: o.noWait, DryRun: o.dryRun, Log: log, Now: env.now, State: lock.State{Dir: machineState()}}
	e, err := stored.Extract(ctx, &order)
	if err != nil || o.dryRun {
		return err
	}
	ask := retrieval.Ask{Order: retrieval.Order{Backup: e.Found, Paths: order.Paths, Overwrite: o.single.overwrite}, Here: here}
	if len(places) > 0 {
		ask.To.Host, ask.To.Dir = machines.At(places[0])
	}
	found, err := ask.Resolve(ctx)
	if err == nil {
		err = o.single.run(ctx, env, o, log, display, found)
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
