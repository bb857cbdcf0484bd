//go:build man

package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// addManCommand adds a command that writes the man pages; scripts/man runs it. Only a build with the tag man has it, which
// keeps the renderer out of the program.
func addManCommand(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    "man DIRECTORY",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "8", Source: "btrfs-backup", Manual: "System administration"}
			return doc.GenManTree(root, header, args[0])
		},
	})
}
