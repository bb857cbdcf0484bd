package main

import (
	"os"

	"github.com/btrfs-backup/btrfs-backup/internal/rsh"

	"github.com/spf13/cobra"
)

// newRsh makes the command that rsync takes for its remote shell. It ends with the status of the far command.
func newRsh(env environment) *cobra.Command {
	return &cobra.Command{
		Use:    "rsh -- ADDRESS [-l USER] HOST COMMAND...",
		Short:  "Be the remote shell of an rsync that btrfs-backup runs",
		Hidden: true,
		Run:    func(c *cobra.Command, args []string) { os.Exit(rsh.Run(c.Context(), args, env.stderr)) },
	}
}
