//go:build !man

package help

import "github.com/spf13/cobra"

// AddPages adds nothing: the program has no man pages.
func AddPages(*cobra.Command, Keys) {}
