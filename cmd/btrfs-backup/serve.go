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

	"btrfs-backup/internal/host/serve"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/volume"
	"btrfs-backup/transport/wire"
)

type serveOptions struct {
	limits       serve.Limits
	keepsLast    int
	resumeWindow time.Duration
	protocol     int
	verbosity    string
}

func newServe(env environment) *cobra.Command {
	o := &serveOptions{}
	c := &cobra.Command{
		Use:     "serve [options]",
		Short:   "Be the far end of an SSH session (the agent)",
		Example: `  restrict,command="btrfs-backup serve --restrict-to /backup --append-only" KEY`,
		Long: `Answer a btrfs-backup on another machine, on standard input and output. It is
started there by ssh. You need it only as the forced command of a key, in a line
like the example of ~/.ssh/authorized_keys: that key can do nothing else.`,
		Args:                  needNothing,
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, _ []string) error { return o.serve(c.Context(), env) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.limits.Root, "restrict-to", "", "allow nothing outside of `DIR`")
	f.BoolVar(&o.limits.AppendOnly, "append-only", false, "refuse to delete or replace backups")
	f.IntVarP(&o.keepsLast, "num-backups", "n", 0, "keep the newest `N`; prune after each backup")
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
	job.CheckNumber("num-backups", o.keepsLast, &c)
	if o.limits.Root != "" && !filepath.IsAbs(o.limits.Root) {
		c.Add("restrict-to", "begin it with a slash", "%s is not absolute", o.limits.Root)
	}
	if o.limits.ReceiveOnly && o.limits.SendOnly {
		c.Add("receive-only", "use one of them", "and --send-only leave nothing to do")
	}
	return c
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
	if o.keepsLast > 0 {
		options.KeepsLast = o.keepsLast
		options.Received = (&volume.ReceivedPruner{Last: o.keepsLast, Log: log}).Received
	}
	return serve.Run(ctx, os.Stdin, os.Stdout, options)
}
