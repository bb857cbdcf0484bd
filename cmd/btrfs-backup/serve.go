package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/arrivals"
	"github.com/btrfs-backup/btrfs-backup/internal/host/serve"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

type serveOptions struct {
	limits       serve.Limits
	keep         retention.Policy
	minAge       time.Duration // negative: the default
	resumeWindow time.Duration
	protocol     int
	verbosity    string
}

func newServe(env environment) *cobra.Command {
	o := &serveOptions{minAge: -1}
	c := &cobra.Command{
		Use:     "serve [options]",
		Short:   "Be the far end of an SSH session (the agent)",
		Example: `  restrict,command="btrfs-backup serve --restrict-to /backup --append-only" KEY`,
		Long: `Answer a btrfs-backup on another machine, on standard input and output. It is
started there by ssh. You need it only as the forced command of a key, in a line
like the example of ~/.ssh/authorized_keys: that key can do nothing else.`,
		Args: needNothing,
		RunE: func(c *cobra.Command, _ []string) error { return o.serve(c.Context(), env) },
	}
	f := c.Flags()
	f.StringVar(&o.limits.Root, "restrict-to", "", "allow nothing outside of `DIR`")
	f.BoolVar(&o.limits.AppendOnly, "append-only", false, "refuse to delete or replace backups")
	f.IntVarP(&o.keep.Last, "num-backups", "n", 0, "keep the newest `N`; prune after each backup")
	f.Var((*arguments.Policy)(&o.keep), "keep-backups", "keep by `POLICY` what arrives, such as 14d8w12m")
	f.Var(arguments.Time{Of: &o.minAge, Least: 0}, "min-age", "never prune what is younger than `TIME`, such as 7d")
	f.BoolVar(&o.limits.ReceiveOnly, "receive-only", false, "take in backups, give none out")
	f.BoolVar(&o.limits.SendOnly, "send-only", false, "take and send snapshots, receive none")
	f.DurationVar(&o.resumeWindow, "resume-window", 24*time.Hour, "keep a broken transfer for `TIME`")
	f.StringVarP(&o.verbosity, "verbosity", "v", "warning", "log at `LEVEL` or above")
	f.IntVar(&o.protocol, "protocol", wire.Protocol, "`N`, which the caller speaks")
	_ = f.MarkHidden("protocol") // fails for an unknown name only
	return c
}

func (o *serveOptions) check() (c job.Complaints) {
	checkVerbosity(o.verbosity, &c)
	job.CheckNumber("num-backups", o.keep.Last, &c)
	if o.limits.Root != "" && !filepath.IsAbs(o.limits.Root) {
		c.Add("restrict-to", "begin it with a slash", "%s is not absolute", o.limits.Root)
	}
	if o.limits.ReceiveOnly && o.limits.SendOnly {
		c.Add("receive-only", "use one of them", "and --send-only leave nothing to do")
	}
	return c
}

// leastAge is that of what is pruned. Time to notice a break-in is the default where the client cannot delete.
func (o *serveOptions) leastAge() time.Duration {
	switch {
	case o.minAge >= 0:
		return o.minAge
	case o.limits.AppendOnly:
		return 7 * 24 * time.Hour
	}
	return 0
}

func (o *serveOptions) serve(ctx context.Context, env environment) error {
	if err := o.check().Err(); err != nil {
		return err
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return misused("serve talks to another btrfs-backup, not to a terminal", "ssh starts it; see btrfs-backup serve --help")
	}
	// the connection may break under a transfer that is kept; whoever wrote to it learns of it by an error
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	log := env.newLog(levels[o.verbosity])
	options := serve.Options{Log: log, Version: programVersion(), Limits: o.limits, ResumeWindow: o.resumeWindow}
	if o.keep != (retention.Policy{}) {
		pruner := &arrivals.Pruner{Keep: o.keep, MinAge: o.leastAge(), Now: env.now, Log: log}
		options.Keeps, options.Received, options.Finished = pruner.Advertised().String(), pruner.Received, pruner.Finished
	}
	return serve.Run(ctx, os.Stdin, os.Stdout, options)
}
