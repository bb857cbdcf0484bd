package main

import (
	"context"
	"slices"

	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/priority"
)

// backupOptions are the options of the main command.
type backupOptions struct {
	spec       *job.Spec
	latestOnly bool
	dedup      dedupOptions
	output     outputOptions
	priority   priority.Priority
}

func (o *backupOptions) define(f *pflag.FlagSet) {
	help.Grouped(f, "Snapshots and backups", o.defineBackups)
	help.Grouped(f, "Runs", o.defineRuns)
	help.Grouped(f, "Other machines", func(f *pflag.FlagSet) {
		defineReach(&o.spec.Reach, f)
		f.Var((*arguments.Rate)(&o.spec.RateLimit), "rate-limit", "at most `RATE` bytes a second, such as 10M")
	})
	help.Grouped(f, "Output", func(f *pflag.FlagSet) {
		o.output.defineVerbosity(f)
		o.output.defineQuiet(f)
		f.BoolVarP(&o.output.noProgress, "no-progress", "P", false, "show no progress")
		f.BoolVar(&o.output.json, "json", false, "print a report in JSON on standard output")
	})
	help.Grouped(f, help.RsyncTitle, o.defineRsync)
	help.Grouped(f, help.FurtherTitle, func(f *pflag.FlagSet) {
		f.BoolVar(&o.spec.SameFilesystem, "same-filesystem", false, "use a new DEST on the filesystem of SOURCE")
		f.BoolVar(&o.spec.Subvolume.Relay, "relay", false, "send on the backups in the folder SOURCE")
		f.BoolVar(&o.spec.Subvolume.OnlyChanged, "only-changed", false, "take no snapshot if nothing changed")
		f.BoolVar(&o.spec.Subvolume.Manifest, "manifest", false, "write down what each backup holds, for verify")
		f.BoolVar(&o.spec.Subvolume.CleanPartial, "clean-partial", false, "delete what an interrupted btrfs receive left at DEST")
		f.BoolVarP(&o.spec.Subvolume.Sync, "sync", "s", false, "wait until deleted subvolumes are off the disk")
		f.BoolVarP(&o.spec.Subvolume.ConvertRW, "convert-rw", "w", false, "make subvolumes writable to delete them")
		f.BoolVar(&o.spec.Subvolume.LockedDests, "locked-dests", false, "add the destinations of failed transfers")
		f.BoolVar(&o.spec.Subvolume.RemoveLocks, "remove-locks", false, "drop each DEST's record and release its snapshots")
		f.StringVar((*string)(&o.spec.Subvolume.Receiver), "receiver", string(o.spec.Subvolume.Receiver), "receive by `HOW`: auto, native or stock")
		f.BoolVarP(&o.spec.Subvolume.Verbose, "btrfs-debug", "d", false, "log what is sent, and the messages of btrfs receive")
		defineNames(o.spec, f)
		defineCompat(&o.spec.Compat, f)
		defineFurtherReach(&o.spec.Reach, f)
		defineStores(&o.spec.Stores, f)
		f.IntVar(&o.priority.Nice, "nice", 0, "leave the processor to others: `N` from 0 to 19, as nice")
		f.StringVar(&o.priority.IONice, "ionice", "", "`CLASS` of disk accesses, as for ionice: idle, best-effort or realtime")
	})
	f.BoolVar(&o.latestOnly, "latest-only", false, "the same as --num-snapshots=1")
	f.BoolVar(&o.spec.Subvolume.Verbose, "debug", false, "the same as --btrfs-debug")
	for _, old := range []string{"latest-only", "debug"} {
		_ = f.MarkHidden(old) // fails for an unknown name only
	}
}

func (o *backupOptions) defineBackups(f *pflag.FlagSet) {
	s := o.spec
	defineKeep(&s.KeepSnapshots, &s.KeepBackups, f)
	f.StringVarP(&s.Subvolume.Folder, "snapshot-folder", "f", s.Subvolume.Folder, "take snapshots in `FOLDER`")
	f.BoolVar(&s.Recursive, "recursive", false, "back up all subvolumes below SOURCE, too")
	f.StringVarP(&s.Prefix, "snapshot-prefix", "p", "", "begin the names of snapshots with `PREFIX`")
	f.BoolVarP(&s.Subvolume.NoSnapshot, "no-snapshot", "S", false, "take no snapshot, send existing ones")
	f.BoolVarP(&s.Subvolume.NoTransfer, "no-transfer", "T", false, "send nothing")
	f.BoolVarP(&s.Subvolume.NoIncremental, "no-incremental", "I", false, "send complete copies, the newest first")
}

func (o *backupOptions) defineRuns(f *pflag.FlagSet) {
	s := o.spec
	f.BoolVar(&s.DryRun, "dry-run", false, "show what would be done and why, change nothing")
	f.BoolVar(&s.NoWait, "no-wait", false, "fail with status 75 while another run holds the lock")
	f.BoolVar(&s.NewDestination, "new-destination", false, "begin anew at a DEST whose backups are gone")
	f.BoolVarP(&s.Subvolume.SkipChecks, "skip-fs-checks", "C", false, "skip the check that SOURCE and DEST are on btrfs")
}

// run is the main command.
func (o *backupOptions) run(ctx context.Context, env environment, args []string) error {
	outlivePipes()
	if err := o.complete(args).Err(); err != nil {
		return err
	}
	if err := o.priority.Set(); err != nil {
		return err
	}
	return runJob(ctx, env, o.spec, o.output)
}

// complete makes the options and places a job, and gives all that is wrong with it.
func (o *backupOptions) complete(args []string) job.Complaints {
	places, c := job.ParsePlaces(args)
	o.spec.Source, o.spec.Destinations = places[0], places[1:]
	o.completeOptions(&c)
	return slices.Concat(c, o.spec.Check())
}

// completeOptions makes settings of options that are more than one.
func (o *backupOptions) completeOptions(c *job.Complaints) {
	if o.latestOnly {
		o.spec.KeepSnapshots.Last = 1
	}
	o.spec.Copy.Dedup = o.dedup.choice(c)
	checkVerbosity(o.output.verbosity, c)
	*c = append(*c, o.priority.Check()...)
}

// newBackupOptions gives the options of a job, bound to it.
func newBackupOptions(spec *job.Spec) *backupOptions {
	*spec = job.Default()
	return &backupOptions{spec: spec}
}
