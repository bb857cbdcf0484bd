package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/btrfs"
)

// version is set when a release is built.
var version = ""

func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

const rootExample = `  btrfs-backup /home /mnt/usb/home               snapshot, send what is new
  btrfs-backup -N 7 -n 60 /home /mnt/usb/home    keep 7 snapshots, 60 backups
  btrfs-backup /home nas:/backup/home            to another machine
  btrfs-backup nas:/home /mnt/usb/nas            from another machine
  btrfs-backup /etc /mnt/usb/etc                 any directory, by rsync
  btrfs-backup list /home nas:/backup/home       what is there`

// newRoot builds the tree of commands.
func newRoot(env environment) *cobra.Command {
	o := &backupOptions{}
	root := &cobra.Command{
		Use:     "btrfs-backup [options] SOURCE [DEST...]",
		Short:   "Take a snapshot of a btrfs subvolume and send the difference to other places",
		Example: rootExample,
		Long: `Take a read-only snapshot of the btrfs subvolume SOURCE, in its folder
"snapshot", and send each DEST, a folder on another btrfs filesystem, what it
lacks. Either may be [USER@]HOST:/PATH or ssh://[USER@]HOST[:PORT]/PATH, DEST
also shell://COMMAND, which is given the stream. @FILE holds more arguments.
Any other directory is copied by rsync: "btrfs-backup help rsync" tells how.`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          checkPlaces,

		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, args []string) error { return backup(c.Context(), env, o, c.Flags(), args) },
	}
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("btrfs-backup {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpTemplate(helpTemplate)
	o.define(root.Flags())
	root.AddCommand(newList(env), newVerify(env), newIndex(env), newFreeze(env), newServe(env), newRsh(env), newRsyncTopic())
	addManCommand(root)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("completion")
	subcommand(root, "help").Args = needKnown
	completion := subcommand(root, "completion")
	completion.Args = needKnown
	completion.RunE = func(c *cobra.Command, _ []string) error { return c.Help() } // cobra checks Args of what runs only
	return root
}

// flagError words the errors of pflag for people.
func flagError(c *cobra.Command, err error) error {
	message := err.Error()
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		needs := map[string]string{"int": "a number", "bool": "true or false",
			"duration": "a time such as 30m or 1h", "rate": "bytes a second such as 500K, 10M or 1.5G"}[invalid.GetFlag().Value.Type()]
		message = fmt.Sprintf("--%s needs %s, not %q", invalid.GetFlag().Name, needs, invalid.GetValue())
	}
	return &usageError{msg: message, hint: "try " + c.CommandPath() + " --help"}
}

// needKnown refuses words that no command below help or completion has.
func needKnown(c *cobra.Command, args []string) error {
	among := c
	if c.Name() == "help" {
		among = c.Root()
	}
	for _, word := range args {
		next := subcommand(among, word)
		if next == nil {
			return &usageError{msg: fmt.Sprintf("%s: there is no %q", c.CommandPath(), word), hint: suggestion(nearestCommand(among, word))}
		}
		among = next
	}
	return nil
}

// needPlace refuses a command line without the place that it is about.
func needPlace(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &usageError{msg: name + " is missing", hint: "usage: " + c.UseLine() + "; more with --help"}
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

// furtherTitle is that of the options that few need.
const furtherTitle = "Further options"

// checkPlaces refuses command lines without a source, and words that look like a misspelt command.
func checkPlaces(c *cobra.Command, args []string) error {
	if err := needPlace("SOURCE")(c, args); err != nil {
		return err
	}
	word := args[0]
	if _, err := os.Lstat(word); err == nil || strings.Contains(word, "/") {
		return nil
	}
	if command := nearestCommand(c.Root(), word); command != "" {
		return &usageError{msg: fmt.Sprintf("%q is neither a command nor a path that exists", word),
			hint: suggestion(command)}
	}
	return nil
}

// backupOptions are the options of the main command.
type backupOptions struct {
	verbosity      string
	quiet          bool
	btrfsDebug     bool
	noProgress     bool
	numSnapshots   int
	numBackups     int
	noSnapshot     bool
	snapshotFolder string
	prefix         string
	noTransfer     bool
	noIncremental  bool
	sync           bool
	convertRW      bool
	removeLocks    bool
	lockedDests    bool
	skipChecks     bool
	latestOnly     bool
	dryRun         bool
	noWait         bool
	json           bool
	rateLimit      rateFlag
	remote         remoteOptions
	rsync          rsyncOptions
	priority       priority
}

func (o *backupOptions) define(f *pflag.FlagSet) {
	f.SortFlags = false
	grouped(f, "Snapshots and backups", o.defineBackups)
	grouped(f, "Runs", o.defineRuns)
	grouped(f, "Other machines", func(f *pflag.FlagSet) {
		o.remote.define(f)
		f.Var(&o.rateLimit, "rate-limit", "at most `RATE` bytes a second, such as 10M")
		f.StringVar(&o.remote.compress, "compress", "auto", "`HOW`: auto, zstd or none")
	})
	grouped(f, "Output", o.defineOutput)
	grouped(f, rsyncTitle, o.rsync.define)
	grouped(f, furtherTitle, func(f *pflag.FlagSet) {
		o.remote.defineFurther(f)
		o.remote.defineTransfer(f)
		o.priority.define(f)
	})
	f.BoolVar(&o.latestOnly, "latest-only", false, "the same as --num-snapshots=1")
	f.BoolVar(&o.btrfsDebug, "debug", false, "the same as --btrfs-debug")
	for _, old := range []string{"latest-only", "debug"} {
		_ = f.MarkHidden(old) // fails for an unknown name only
	}
}

func (o *backupOptions) defineBackups(f *pflag.FlagSet) {
	f.IntVarP(&o.numSnapshots, "num-snapshots", "N", 0, "keep the newest `N` snapshots; 0 keeps all")
	f.IntVarP(&o.numBackups, "num-backups", "n", 0, "keep the newest `N` at each DEST, send no others")
	f.StringVarP(&o.snapshotFolder, "snapshot-folder", "f", "snapshot", "take snapshots in `FOLDER`")
	f.StringVarP(&o.prefix, "snapshot-prefix", "p", "", "begin the names of snapshots with `PREFIX`")
	f.BoolVarP(&o.noSnapshot, "no-snapshot", "S", false, "take no snapshot, send those there are")
	f.BoolVarP(&o.noTransfer, "no-transfer", "T", false, "send nothing")
	f.BoolVarP(&o.noIncremental, "no-incremental", "I", false, "send complete copies, the newest first")
	f.BoolVarP(&o.sync, "sync", "s", false, "wait until what is deleted is off the disk")
	f.BoolVarP(&o.convertRW, "convert-rw", "w", false, "make subvolumes writable to delete them")
}

func (o *backupOptions) defineRuns(f *pflag.FlagSet) {
	f.BoolVar(&o.dryRun, "dry-run", false, "tell what would be done and why, change nothing")
	f.BoolVar(&o.noWait, "no-wait", false, "fail with status 75 while another run holds the lock")
	f.BoolVar(&o.lockedDests, "locked-dests", false, "add the destinations that earlier transfers failed to")
	f.BoolVar(&o.removeLocks, "remove-locks", false, "forget what is on record about each DEST")
	f.BoolVarP(&o.skipChecks, "skip-fs-checks", "C", false, "do not check in advance what the places are")
}

func (o *backupOptions) defineOutput(f *pflag.FlagSet) {
	f.StringVarP(&o.verbosity, "verbosity", "v", "info", "`LEVEL` debug, info, warning or error")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "log only what went wrong, show no progress")
	f.BoolVarP(&o.noProgress, "no-progress", "P", false, "show no progress")
	f.BoolVarP(&o.btrfsDebug, "btrfs-debug", "d", false, "log what btrfs send and receive do")
	f.BoolVar(&o.json, "json", false, "print a report in JSON on standard output")
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError,
}

func (o *backupOptions) check() error {
	if _, ok := levels[o.verbosity]; !ok {
		return &usageError{msg: fmt.Sprintf("--verbosity %s is unknown", o.verbosity), hint: "use debug, info, warning or error"}
	}
	const nameMax = 255
	longest := btrfs.Incoming(o.prefix + "20060102-150405")
	if strings.ContainsAny(o.prefix, "/\x00") || len(longest) > nameMax || !utf8.ValidString(o.prefix) {
		return &usageError{msg: fmt.Sprintf("--snapshot-prefix %q cannot begin the name of a snapshot", o.prefix),
			hint: "it may be any text without a slash, up to 230 bytes"}
	}
	if err := cmp.Or(o.rsync.check(), o.priority.check()); err != nil {
		return err
	}
	if o.quiet {
		o.verbosity, o.noProgress = "warning", true
	}
	if o.latestOnly {
		o.numSnapshots = 1
	}
	return nil
}
