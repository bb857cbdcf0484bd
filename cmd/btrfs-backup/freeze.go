package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

// Variables that an rsync daemon sets for the program of `post-xfer exec`, see rsyncd.conf(5).
const (
	modulePathVariable = "RSYNC_MODULE_PATH"
	exitStatusVariable = "RSYNC_EXIT_STATUS"
)

type freezeOptions struct {
	spec   job.Spec
	dedup  dedupOptions
	output outputOptions
}

func newFreeze(env environment) *cobra.Command {
	o := &freezeOptions{spec: job.Default(), output: outputOptions{verbosity: "info", noProgress: true}}
	c := &cobra.Command{
		Use:   "freeze [options] [DIR]",
		Short: "Make a dated backup of what an rsync daemon received",
		Long: `Make a dated backup of DIR, as it is now, beside it, and delete old ones.
It is the "post-xfer exec" of an rsync daemon's module: DIR is the path of the
module ($RSYNC_MODULE_PATH). No backup is made when the transfer failed
($RSYNC_EXIT_STATUS), or when nothing differs from the last backup. If DIR is a
btrfs subvolume, the backup is a snapshot.`,
		Example: "  post-xfer exec = /usr/local/sbin/btrfs-backup freeze --num-backups 60",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return o.freeze(c.Context(), env, args) },
	}
	o.define(c.Flags())
	return c
}

func (o *freezeOptions) define(f *pflag.FlagSet) {
	s := &o.spec
	f.IntVarP(&s.KeepBackups.Last, "num-backups", "n", 0, "keep the newest `N`; 0 keeps all")
	f.Var((*arguments.Policy)(&s.KeepBackups), "keep-backups", "keep by `POLICY`, such as 14d8w12m")
	f.StringVarP(&s.Prefix, "snapshot-prefix", "p", "", "begin the names of backups with `PREFIX`")
	defineNames(s, f)
	defineCompat(&s.Compat, f)
	defineMaxDelete(&s.Copy, f)
	o.dedup.define(f)
	f.BoolVar(&s.DryRun, "dry-run", false, "show what would be done and why, change nothing")
	f.BoolVar(&s.NoWait, "no-wait", false, "fail with status 75 while a run holds the lock")
	f.BoolVarP(&o.output.quiet, "quiet", "q", false, "log only failures and warnings")
}

func (o *freezeOptions) freeze(ctx context.Context, env environment, args []string) error {
	dir := os.Getenv(modulePathVariable)
	if len(args) > 0 {
		dir = args[0]
	}
	if module := os.Getenv(modulePathVariable); len(args) > 0 && module != "" && job.Contains(dir, module) {
		return misused(fmt.Sprintf("%s holds $%s (%s): backups of it would hold backups", dir, modulePathVariable, module),
			"leave out DIR, or name the directory that the module takes files into")
	}
	if dir == "" {
		return misused("DIR is missing, and so is $"+modulePathVariable, "an rsync daemon sets it for its `post-xfer exec`")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	s := &o.spec
	s.Source, s.Destinations, s.Engine = job.Local{Path: dir}, []job.Place{job.Local{Path: filepath.Dir(dir)}}, job.Rsync
	s.Copy.Frozen = true
	if s.Copy.Incomplete, err = job.IncompleteBy(exitStatusVariable); err != nil {
		return err
	}
	var c job.Complaints
	s.Copy.Dedup = o.dedup.choice(&c)
	if err := slices.Concat(c, s.Check()).Err(); err != nil {
		return err
	}
	return runJob(ctx, env, s, o.output)
}
