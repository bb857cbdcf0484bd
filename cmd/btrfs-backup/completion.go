package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/help"
)

// chosen are the values of options that have few.
var chosen = map[string][]string{
	"agent":     {"auto", "installed"},
	"compress":  {"auto", "zstd", "none"},
	"engine":    {"auto", "btrfs", "rsync", "mirror"},
	"receiver":  {"auto", "native", "stock"},
	"ionice":    {"idle", "best-effort", "realtime"},
	"verbosity": {"debug", "info", "warning", "error"},
}

// Options whose values are files or directories. Shells offer nothing for others.
var (
	files       = []string{"config", "exclude-from", "identity", "output", "paper", "recipients", "ssh-program"}
	directories = []string{"agents", "mount-point", "restrict-to", "snapshot-folder", "to"}
)

// addCompletion makes shells offer what can stand at each place.
func addCompletion(root *cobra.Command) {
	root.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault // paths, beside the commands
	}
	for _, names := range [][]string{{"run"}, {"status"}, {"report"}, {"config", "show"}} {
		c, _, _ := root.Find(names)
		c.ValidArgsFunction = completed((*config.Config).JobNames)
	}
	completion := arguments.Subcommand(root, "completion")
	completion.Example = "  btrfs-backup completion bash --help    how to install it, also for zsh and fish"
	run := arguments.Subcommand(root, "run")
	_ = run.RegisterFlagCompletionFunc("tag", completed((*config.Config).Tags)) // fails for what is registered already
	_ = run.RegisterFlagCompletionFunc("disk", completed((*config.Config).DiskNames))
	for _, c := range help.WithCommands(root) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if help.TakesValue(f) {
				_ = c.RegisterFlagCompletionFunc(f.Name, valuesOf(f.Name))
			}
		})
	}
}

// completed offers what the configuration names, without the arguments that there are.
func completed(names func(*config.Config) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		file, _ := c.Flags().GetString("config")
		found, err := lookInto(file)
		if err != nil && file == "" {
			found, err = lookInto(config.SystemFile) // of sudo btrfs-backup run
		}
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		given := func(name string) bool { return slices.Contains(args, name) }
		return slices.DeleteFunc(names(found), given), cobra.ShellCompDirectiveNoFileComp
	}
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
	for _, c := range help.WithCommands(root) {
		c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") })
	}
}
