package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/time/rate"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/power"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/chain"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// streamsRestore restores a subvolume from streams that were stored.
type streamsRestore struct {
	whole   *wholeRestore // has the options about the target
	files   bool
	command string
	keep    bool
}

func (s *streamsRestore) define(f *pflag.FlagSet) {
	f.BoolVar(&s.files, "streams", false, "BACKUPs are files of send streams, in any order")
	f.StringVar(&s.command, "from-stream", "", "BACKUPs are names; `COMMAND` gives the streams")
	f.BoolVar(&s.keep, "keep-chain", false, "receive all that is needed in TARGET, no more")
}

func (s *streamsRestore) isAsked() bool { return s.files || s.command != "" || s.keep }

// inputs gives what the arguments name.
func (s *streamsRestore) inputs(o *restoreOptions, env environment, names []string, target string) (inputs []*chain.Input, err error) {
	if s.files && s.command != "" {
		return nil, misused("--streams and --from-stream are two ways", "give one of them")
	}
	if o.single.isAsked() {
		return nil, misused("streams hold a whole subvolume", "leave out --path, --to and --overwrite: files are copied from what is restored")
	}
	if s.keep && !s.files && s.command == "" {
		return nil, misused("--keep-chain is about streams", "name them: --streams FILE... TARGET, or --from-stream COMMAND NAME... TARGET")
	}
	if info, err := os.Stat(target); s.files && target != "" && err == nil && info.Mode().IsRegular() {
		return nil, misused("TARGET is missing: "+progress.Name(target)+" is a file", "usage: btrfs-backup restore --streams FILE... TARGET")
	}
	if len(names) == 0 {
		return nil, misused("streams and TARGET are needed", "usage: btrfs-backup restore --streams FILE... TARGET, or --from-stream COMMAND NAME... TARGET")
	}
	if s.keep && s.whole.order.InPlace {
		return nil, misused("--keep-chain makes no subvolume, and so replaces none", "leave out --in-place")
	}
	for i, name := range names {
		switch {
		case slices.Contains(names[:i], name):
		case s.command != "":
			inputs = append(inputs, chain.Command(s.command, name, env.newLog(o.output.level())))
		case name == "-":
			inputs = append(inputs, chain.Stdin(os.Stdin))
		default:
			inputs = append(inputs, chain.File(name))
		}
	}
	return inputs, nil
}

func (s *streamsRestore) restore(ctx context.Context, env environment, o *restoreOptions, args []string) error {
	last := max(len(args)-1, 0)
	inputs, err := s.inputs(o, env, args[:last], strings.Join(args[last:], ""))
	if err != nil {
		return err
	}
	log, display := o.output.open(env, o.dryRun)
	if display != nil {
		defer display.Close()
	}
	places, machines, err := look(env, log, o.reach, args[last:])
	if err != nil {
		return err
	}
	defer machines.Close()
	if !o.dryRun {
		defer power.KeepAwake(log, "a backup is being restored")()
	}
	order := s.whole.order
	order.To, order.Target = machines.At(places[0])
	order.Settings = engine.Settings{NoWait: o.noWait, DryRun: o.dryRun, Log: log, Now: env.now, State: lock.State{Dir: lock.StateDir()}}
	order.RateLimit, order.Progress = rate.Limit(o.limit), display
	did, err := restore.RunStreams(ctx, order, restore.Streams{Inputs: inputs, Until: o.until, Keep: s.keep})
	if err != nil {
		return err
	}
	return o.tell(env, did)
}
