package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

const rootExample = `  btrfs-backup /home /mnt/usb/home               snapshot, send changes
  btrfs-backup -N 7 -n 60 /home /mnt/usb/home    keep 7 snapshots, 60 backups
  btrfs-backup /home nas:/backup/home            to another machine
  btrfs-backup /home s3://my-bucket/laptop       encrypted, to a store
  btrfs-backup /etc /mnt/usb/etc                 any directory, by rsync`

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
DEST also an encrypted store, s3://[HOST/]BUCKET/PREFIX, store:/FOLDER or
store+ssh://HOST/FOLDER, or shell://COMMAND, which reads the stream. rsync
copies other directories ("help rsync", "help stores"). @FILE holds arguments.`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          checkPlaces,

		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), env, args) },
	}
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("btrfs-backup {{.Version}}\n")
	root.SetFlagErrorFunc(arguments.FlagError)
	help.Set(root)
	o.define(root.Flags())
	addCommands(root, env)
	for _, c := range help.WithCommands(root) {
		c.PreRunE = needProc
	}
	root.AddCommand(newRsh(env), newReceive(env), newRsyncTopic(), newStoresTopic())
	help.AddPages(root, jobKeys)
	for _, c := range help.WithCommands(root) {
		c.DisableFlagsInUseLine, c.Flags().SortFlags = true, false
		arguments.RefuseEmpty(c.Flags())
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("completion")
	arguments.Subcommand(root, "help").Args = arguments.NeedKnown
	for _, c := range help.WithCommands(root) {
		if c != root && c.HasSubCommands() {
			c.Args, c.RunE = arguments.NeedKnown, func(c *cobra.Command, _ []string) error { return c.Help() } // cobra checks Args of what runs only
		}
	}
	addCompletion(root)
	return root
}

// addCommands adds all commands, by what people need them for.
func addCommands(root *cobra.Command, env environment) {
	help.Group(root, "Every day", newRun(env), newStatus(env), newReport(env), newList(env), newExplain(env), newUsage(env), newHooks(env))
	help.Group(root, "Getting data back", newVersions(env), newDiff(env), newRestore(env))
	help.Group(root, "Trust", newVerify(env), newRelink(env), newAdopt(env), newIndex(env))
	help.Group(root, "Making room", newDelete(env), newPrune(env), newForget(env))
	help.Group(root, settingUp, newConfig(env), newImport(env), newInstall(env), newUninstall(env), newKey(env), newServe(env), newFreeze(env))
	root.SetCompletionCommandGroupID(settingUp)
}

// checkPlaces refuses command lines without a source, a first word that is neither a command nor there, and further words that may be
// machines.
func checkPlaces(c *cobra.Command, args []string) error {
	if err := needPlace("SOURCE")(c, args); err != nil {
		return err
	}
	if isNowhere(args[0]) {
		forward := arguments.Suggestion(arguments.NearestCommand(c.Root(), args[0]))
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
