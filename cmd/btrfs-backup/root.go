package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/internal/arguments"
	"btrfs-backup/internal/help"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/job"
)

const rootExample = `  btrfs-backup /home /mnt/usb/home               snapshot, send changes
  btrfs-backup -N 7 -n 60 /home /mnt/usb/home    keep 7 snapshots, 60 backups
  btrfs-backup /home nas:/backup/home            to another machine
  btrfs-backup nas:/home /mnt/usb/nas            from another machine
  btrfs-backup /etc /mnt/usb/etc                 any directory, by rsync
  btrfs-backup list /home nas:/backup/home       list backups`

// settingUp is the title of the commands that people need once.
const settingUp = "Setting up"

// newRoot builds the tree of commands.
func newRoot(env environment) *cobra.Command {
	o := newBackupOptions(new(job.Spec))
	root := &cobra.Command{
		Use:     "btrfs-backup [options] SOURCE [DEST...]",
		Short:   "Take a snapshot of a btrfs subvolume and send the difference to other places",
		Example: rootExample,
		Long: `Take a read-only snapshot of the btrfs subvolume SOURCE, in its folder
"snapshot", and send the difference to each DEST, a folder on another btrfs
filesystem. Either may be [USER@]HOST:/PATH or ssh://[USER@]HOST[:PORT]/PATH,
DEST also shell://COMMAND, which reads the stream. @FILE holds more arguments.
rsync copies any other directory: see "btrfs-backup help rsync".`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          checkPlaces,

		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), env, args) },
	}
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("btrfs-backup {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	help.Set(root)
	o.define(root.Flags())
	addCommands(root, env)
	for _, c := range help.WithCommands(root) {
		c.PreRunE = needProc
	}
	root.AddCommand(newRsh(env), newReceive(env), newRsyncTopic())
	help.AddPages(root, keys)
	for _, c := range help.WithCommands(root) {
		c.DisableFlagsInUseLine, c.Flags().SortFlags = true, false
		refuseEmpty(c.Flags())
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("completion")
	arguments.Subcommand(root, "help").Args = needKnown
	for _, c := range help.WithCommands(root) {
		if c != root && c.HasSubCommands() {
			c.Args, c.RunE = needKnown, func(c *cobra.Command, _ []string) error { return c.Help() } // cobra checks Args of what runs only
		}
	}
	addCompletion(root)
	return root
}

// addCommands adds all commands, by what people need them for.
func addCommands(root *cobra.Command, env environment) {
	help.Group(root, "Every day", newRun(env), newStatus(env), newList(env), newExplain(env), newUsage(env), newHooks(env))
	help.Group(root, "Getting data back", newVersions(env), newDiff(env), newRestore(env))
	help.Group(root, "Trust", newVerify(env), newRelink(env), newAdopt(env), newIndex(env))
	help.Group(root, "Making room", newDelete(env), newPrune(env), newForget(env))
	help.Group(root, settingUp, newConfig(env), newImport(env), newInstall(env), newUninstall(env), newServe(env), newFreeze(env))
	root.SetCompletionCommandGroupID(settingUp)
}

// flagError words the errors of pflag for people.
func flagError(c *cobra.Command, err error) error {
	message, forward := err.Error(), "try "+c.CommandPath()+" --help"
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		text, more := wordInvalid(invalid)
		message, forward = "--"+text, cmp.Or(more, forward)
	}
	return misused(message, forward)
}

// wordInvalid tells what is wrong with the value of an option, and the way forward.
func wordInvalid(invalid *pflag.InvalidValueError) (message, forward string) {
	needs := map[string]string{"int": "a number", "bool": "true or false", "string": "a value",
		"duration": "a time such as 30m or 1h", "rate": "bytes a second such as 500K, 10M or 1.5G"}[invalid.GetFlag().Value.Type()]
	message = fmt.Sprintf("%s needs %s, not %q", invalid.GetFlag().Name, needs, invalid.GetValue())
	if needs == "" {
		message = fmt.Sprintf("%s: %v", invalid.GetFlag().Name, invalid.Unwrap())
	}
	return message, cmp.Or(policyHint(invalid.GetFlag(), invalid.GetValue()), hint.Of(invalid.Unwrap()))
}

// fullText is the value of an option that cannot be empty: a variable that is unset in a script is not the default.
type fullText struct{ pflag.Value }

func (t fullText) Set(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	return t.Value.Set(text)
}

// refuseEmpty lets options of text have no empty value, but for those of which it is the default.
func refuseEmpty(f *pflag.FlagSet) {
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Value.Type() == "string" && !slices.Contains([]string{"snapshot-folder", "snapshot-prefix", "rsync-options"}, flag.Name) {
			flag.Value = fullText{flag.Value}
		}
	})
}

// needKnown refuses words that no command below help or completion has.
func needKnown(c *cobra.Command, args []string) error {
	among := c
	if c.Name() == "help" {
		among = c.Root()
	}
	for _, word := range args {
		next := arguments.Subcommand(among, word)
		if next == nil {
			return misused(fmt.Sprintf("%s: there is no %q", c.CommandPath(), word), suggestion(arguments.NearestCommand(among, word)))
		}
		among = next
	}
	return nil
}

// needPlace refuses a command line without the place that it is about.
func needPlace(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return misused(name+" is missing", "usage: "+c.UseLine()+"; more with --help")
		}
		return nil
	}
}

func suggestion(word string) string {
	if word == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", word)
}

// checkPlaces refuses command lines without a source, a first word that is neither a command nor there, and further words that may be
// machines.
func checkPlaces(c *cobra.Command, args []string) error {
	if err := needPlace("SOURCE")(c, args); err != nil {
		return err
	}
	if isNowhere(args[0]) {
		forward := suggestion(arguments.NearestCommand(c.Root(), args[0]))
		if forward == "" {
			forward = "`btrfs-backup --help` lists the commands; another machine is HOST:/PATH"
		}
		return misused(fmt.Sprintf("%q is neither a command nor a path that exists", args[0]), forward)
	}
	for _, word := range args[1:] {
		if machine, path, _ := strings.Cut(word, "/"); isNowhere(machine) {
			return misused(fmt.Sprintf("%q is no path that exists", machine),
				fmt.Sprintf("another machine is %s:/%s; ./%s is a folder that is made here", machine, cmp.Or(path, "PATH"), word))
		}
	}
	return nil
}

// isNowhere tells that a word is no path, and none of anything that is here.
func isNowhere(word string) bool {
	_, err := os.Lstat(word)
	return err != nil && word != "" && !strings.ContainsAny(word, "/:")
}
