package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// jobOptions are the options of the main command as keys of a job in a file.
type jobOptions struct {
	*backupOptions
	flags *pflag.FlagSet
}

// newJobOptions binds options to a Spec.
func newJobOptions(spec *job.Spec) config.Options {
	o := jobOptions{newBackupOptions(spec), help.NewFlagSet()}
	o.define(o.flags)
	arguments.RefuseEmpty(o.flags)
	return o
}

// ofOneRun are the options that only make sense on a command line.
var ofOneRun = []string{"dry-run", "no-wait", "new-destination", "locked-dests", "remove-locks", "json", "verbosity", "quiet",
	"no-progress", "latest-only", "debug", "btrfs-debug"}

func (o jobOptions) Names() []string {
	return slices.DeleteFunc(arguments.VisibleFlags(o.flags), func(name string) bool { return slices.Contains(ofOneRun, name) })
}

func (o jobOptions) Repeatable(name string) bool {
	return slices.Contains([]string{"filter", "stringArray"}, o.flags.Lookup(name).Value.Type())
}

func (o jobOptions) Set(name, value string) error {
	if name == "dedup" && value == "false" {
		name, value = "no-dedup", "true"
	}
	err := o.flags.Set(name, value)
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		needs, forward := arguments.WordInvalid(invalid)
		return hint.New(errors.New(needs), forward)
	}
	return err
}

func (o jobOptions) Complete() (c job.Complaints) {
	o.completeOptions(&c)
	return c
}

// readConfig reads the configuration.
func readConfig(file string) (*config.Config, error) {
	return config.Read(config.Source{File: file, Options: newJobOptions, Nearest: arguments.Nearest})
}

// lookInto reads the configuration to tell of it. What hooks run may be missing.
func lookInto(file string) (*config.Config, error) {
	return config.Read(config.Source{File: file, Options: newJobOptions, Nearest: arguments.Nearest, Look: true})
}

// jobKeys gives the options that jobs have in the configuration.
func jobKeys() (*pflag.FlagSet, []string) {
	o := newJobOptions(new(job.Spec)).(jobOptions)
	return o.flags, o.Names()
}

// defineConfig defines which configuration is read.
func defineConfig(file *string, f *pflag.FlagSet) {
	f.StringVar(file, "config", "", "`FILE` in place of "+config.SystemFile)
}

func newConfig(env environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "config COMMAND",
		Short: "Check, show or write the configuration",
		Example: "  sudo btrfs-backup config init    write a first one\n" +
			"  btrfs-backup config check        what is wrong with it\n" +
			"  btrfs-backup config show home    the job home, and where each value stands",
		Long: `The configuration has the jobs of "btrfs-backup run":
` + config.SystemFile + `, then the files ` + config.DropIns + `/*.toml beside it.
Without root, both are in ~/.config/btrfs-backup. See btrfs-backup.toml(5).`,
	}
	c.AddCommand(newConfigCheck(env), newConfigShow(env), newConfigInit(env))
	return c
}

func newConfigCheck(env environment) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "check [options]",
		Short:   "Tell all that is wrong with the configuration",
		Example: "  btrfs-backup config check --config new.toml",
		Long: `Read the configuration as a run does, and tell all that is wrong with it, each
with its line, also what is wrong with the credentials and keys for stores. No
disk and no other machine is looked at.`,
		Args: needNothing,
		RunE: func(*cobra.Command, []string) error {
			found, err := readConfig(file)
			if err == nil {
				err = found.CheckFiles(lock.StateDir())
			}
			if err == nil {
				fmt.Fprintf(env.stdout, "%s, nothing is wrong\n", report.Count(len(found.Jobs), "job"))
			}
			return err
		},
	}
	defineConfig(&file, c.Flags())
	return c
}

func newConfigShow(env environment) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "show [options] JOB",
		Short:   "Show a job's values, and where each stands",
		Example: "  btrfs-backup config show home",
		Long: `Show each value of a job, also those of [default] and of the job that it is
like, with the file and the line where it stands. What is not shown is as the
command line has it by default.`,
		Args: needPlace("JOB"),
		RunE: func(_ *cobra.Command, args []string) error {
			found, err := lookInto(file)
			if err != nil {
				return err
			}
			jobs, err := found.Named(args)
			for _, j := range jobs {
				fmt.Fprintf(env.stdout, "[job.%s]\n", j.Name)
				for _, l := range j.Lines() {
					fmt.Fprintf(env.stdout, "%-44s # %s\n", l.Key+" = "+l.Value, l.Origin)
				}
			}
			return err
		},
	}
	defineConfig(&file, c.Flags())
	return c
}
