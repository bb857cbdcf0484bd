package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// chosen are the values of options that have few.
var chosen = map[string][]string{
	"agent":     {"auto", "installed"},
	"compress":  {"auto", "zstd", "none"},
	"engine":    {"auto", "btrfs", "rsync"},
	"ionice":    {"idle", "best-effort", "realtime"},
	"verbosity": {"debug", "info", "warning", "error"},
}

// Options whose values are files or directories. Shells offer nothing for others.
var (
	files       = []string{"config", "exclude-from", "ssh-program"}
	directories = []string{"agents", "mount-point", "restrict-to", "snapshot-folder"}
)

// addCompletion makes shells offer what can stand at each place.
func addCompletion(root *cobra.Command) {
	root.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault // paths, beside the commands
	}
	for _, names := range [][]string{{"run"}, {"status"}, {"config", "show"}} {
		c, _, _ := root.Find(names)
		c.ValidArgsFunction = completeJobs
	}
	completion := subcommand(root, "completion")
	completion.Example = "  btrfs-backup completion bash --help    how to install it, also for zsh and fish"
	for _, c := range withCommands(root) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if takesValue(f) {
				_ = c.RegisterFlagCompletionFunc(f.Name, valuesOf(f.Name)) // fails for what is registered already
			}
		})
	}
}

// completeJobs offers the names of jobs.
func completeJobs(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	file, _ := c.Flags().GetString("config")
	found, err := lookInto(file)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, j := range found.Jobs {
		if !slices.Contains(args, j.Name) {
			names = append(names, j.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func valuesOf(option string) cobra.CompletionFunc {
	directive := cobra.ShellCompDirectiveNoFileComp
	switch {
	case slices.Contains(files, option):
		directive = cobra.ShellCompDirectiveDefault
	case slices.Contains(directories, option):
		directive = cobra.ShellCompDirectiveFilterDirs
	}
	return cobra.FixedCompletions(chosen[option], directive)
}

// unmark takes the marks off that help needs to name values.
func unmark(root *cobra.Command) {
	for _, c := range withCommands(root) {
		c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") })
	}
}
