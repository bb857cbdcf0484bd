package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/byhand"
)

// newReceive is for scripts that call `btrfs receive`, whose options it has.
func newReceive(env environment) *cobra.Command {
	var o byhand.Order
	var file, root string
	var verbose int
	c := &cobra.Command{
		Use:    "receive [options] DIR",
		Short:  "Make subvolumes of send streams, as btrfs receive does",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Dir, o.Streams, o.Said, o.Details = args[0], os.Stdin, env.stderr, verbose > 0
			o.Out = env.stdout
			if file != "" {
				in, err := os.Open(file)
				if err != nil {
					return err
				}
				defer in.Close()
				o.Streams = in
			}
			return byhand.Receive(c.Context(), o)
		},
	}
	f := c.Flags()
	f.CountVarP(&verbose, "verbose", "v", "tell UUIDs, too")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	f.StringVarP(&file, "file", "f", "", "read `FILE` instead of standard input")
	f.BoolVarP(&o.OnlyOne, "end", "e", false, "end behind the first stream")
	f.StringVarP(&root, "root", "m", "", "`DIR` where the filesystem is mounted: not needed")
	f.BoolVar(&o.Inflate, "force-decompress", false, "decompress data rather than write it as it is")
	f.IntVarP(&o.Most, "max-errors", "E", 1, "give up after `N` errors; 0: never")
	return c
}
