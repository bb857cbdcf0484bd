package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/mirror"
	"btrfs-backup/retention"
)

// Variables that an rsync daemon sets for the program of `post-xfer exec`, see rsyncd.conf(5).
const (
	modulePathVariable = "RSYNC_MODULE_PATH"
	exitStatusVariable = "RSYNC_EXIT_STATUS"
)

type freezeOptions struct {
	prefix     string
	numBackups int
	maxDelete  int
	dedup      bool
	noDedup    bool
	dryRun     bool
	noWait     bool
	quiet      bool
}

func newFreeze(env environment) *cobra.Command {
	o := &freezeOptions{}
	c := &cobra.Command{
		Use:   "freeze [options] [DIR]",
		Short: "Make a dated backup of what an rsync daemon received",
		Long: `Make a dated backup, beside DIR, of what stands in DIR now, and delete old ones.
It is the "post-xfer exec" of an rsync daemon's module: DIR is the path of the
module ($RSYNC_MODULE_PATH), and nothing is done when the transfer failed
($RSYNC_EXIT_STATUS). If DIR is a btrfs subvolume, the backup is a snapshot.`,
		Example:               "  post-xfer exec = /usr/local/sbin/btrfs-backup freeze --num-backups 60",
		Args:                  cobra.MaximumNArgs(1),
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, args []string) error { return freeze(c.Context(), env, o, args) },
	}
	f := c.Flags()
	f.SortFlags = false
	o.define(f)
	return c
}

func (o *freezeOptions) define(f *pflag.FlagSet) {
	f.IntVarP(&o.numBackups, "num-backups", "n", 0, "keep the newest `N`; 0 keeps all")
	f.StringVarP(&o.prefix, "snapshot-prefix", "p", "", "begin the names of backups with `PREFIX`")
	f.IntVar(&o.maxDelete, "max-delete", 50, "let `PERCENT` of the files be gone")
	f.BoolVar(&o.dedup, "dedup", false, "store equal contents once; default but on btrfs")
	f.BoolVar(&o.noDedup, "no-dedup", false, "do not look for equal contents")
	f.BoolVar(&o.dryRun, "dry-run", false, "tell what would be done and why, change nothing")
	f.BoolVar(&o.noWait, "no-wait", false, "fail with status 75 if another run is on")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "log only what went wrong")
}

func freeze(ctx context.Context, env environment, o *freezeOptions, args []string) error {
	dir := os.Getenv(modulePathVariable)
	if len(args) > 0 {
		dir = args[0]
	}
	if dir == "" {
		return &usageError{msg: "DIR is missing, and so is $" + modulePathVariable, hint: "an rsync daemon sets it for its `post-xfer exec`"}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	incomplete, err := transferStatus(os.Getenv(exitStatusVariable))
	if err != nil {
		return err
	}
	b := &backupOptions{prefix: o.prefix, numBackups: o.numBackups, dryRun: o.dryRun, noWait: o.noWait, quiet: o.quiet,
		verbosity: "info", noProgress: true,
		rsync: rsyncOptions{engine: "rsync", maxDelete: o.maxDelete, dedup: o.dedup, noDedup: o.noDedup}}
	if err := b.check(); err != nil {
		return err
	}
	display, log := b.output(env)
	hosts, err := b.remote.hosts(env, log)
	if err != nil {
		return err
	}
	defer hosts.Close()
	settings := engine.Settings{NoWait: b.noWait, DryRun: b.dryRun, Log: log, Progress: display, Now: env.now}
	options, err := b.mirrorOptions(settings)
	if err != nil {
		return err
	}
	source := mirror.NewSource(hosts.local, dir, mirror.SourceOptions{Log: log, Frozen: true, Incomplete: incomplete})
	job := engine.CopyJob{Tree: source, Mirrors: []engine.Mirror{mirror.NewFolder(hosts.local, filepath.Dir(dir), source, options)},
		Naming: engine.Naming{Prefix: b.prefix}, Keep: retention.Policy{Last: max(b.numBackups, 0)},
		Settings: settings}
	report, err := engine.RunCopy(ctx, job)
	return b.conclude(env, log, report, err)
}

// transferStatus refuses what a failed transfer left, and tells what is missing after one that was not complete.
func transferStatus(status string) (incomplete string, err error) {
	switch status {
	case "", "0", "24": // vanished files are normal
		return "", nil
	case "23":
		return "the transfer was not complete: rsync ended with status 23", nil
	}
	return "", hint.New(fmt.Errorf("the transfer failed, so that no backup is made: $%s is %s", exitStatusVariable, status),
		"the next transfer puts it right; see the daemon's log for the reason")

}
