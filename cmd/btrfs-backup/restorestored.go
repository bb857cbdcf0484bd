package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/time/rate"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/power"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/restore/stored"
	"btrfs-backup/internal/seal"
	"btrfs-backup/lock"
)

// storedRestore restores from a store.
type storedRestore struct {
	streams *streamsRestore
	reading readingOptions
	price   float64
}

func (s *storedRestore) define(f *pflag.FlagSet) {
	f.StringArrayVarP(&s.reading.identities, "identity", "i", nil, "`FILE` of a secret key for a store, - types one")
	f.Float64Var(&s.price, "egress-price", 0, "tell the cost of fetching, at `PRICE` for a GiB")
}

func (s *storedRestore) defineFurther(f *pflag.FlagSet) {
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
