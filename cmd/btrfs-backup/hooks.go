package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

func newHooks(env environment) *cobra.Command {
	c := &cobra.Command{
		Use:     "hooks COMMAND",
		Short:   "Do what the hooks of a killed run left to be done",
		Example: "  btrfs-backup hooks finish    start what a killed run stopped",
		Long: `Hooks are programs that a job of the configuration runs before and after its
parts. See btrfs-backup.toml(5).`,
	}
	c.AddCommand(newHooksFinish(env))
	return c
}

func newHooksFinish(env environment) *cobra.Command {
	var o outputOptions
	c := &cobra.Command{
		Use:     "finish [options]",
		Short:   "Run the afters that killed runs left",
		Example: "  btrfs-backup hooks finish",
		Long: `Run the "after" of each hook whose "before" may have run, and whose run was
killed since: by SIGKILL, for lack of memory, or by a second Ctrl-C. The newest
comes first. Then close the disks that such runs had opened. Runs that go on are
left alone. The next run does the same when it begins, and the service that
"btrfs-backup install" writes when it ends.`,
		Args: needNothing,
		RunE: func(c *cobra.Command, _ []string) error {
			var complaints job.Complaints
			if checkVerbosity(o.verbosity, &complaints); len(complaints) > 0 {
				return complaints.Err()
			}
			log, _ := o.open(env, true)
			_, err := hook.Finish(c.Context(), env.runtime, log)
			return errors.Join(err, disk.CloseAbandoned(c.Context(), disk.Options{Log: log, State: env.runtime}))
		},
	}
	f := c.Flags()
	o.defineVerbosity(f)
	o.defineQuiet(f)
	return c
}
