package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

// defineRsync defines the options for sources that are copied by rsync.
func (o *backupOptions) defineRsync(f *pflag.FlagSet) {
	c := &o.spec.Copy
	f.StringVar((*string)(&o.spec.Engine), "engine", string(o.spec.Engine), "`HOW`: auto, btrfs, rsync, mirror")
	for _, rule := range [][2]string{
		{"exclude", "leave out files that match the rsync `PATTERN`"},
		{"exclude-from", "read patterns from `FILE`"},
		{"include", "do copy `PATTERN`; the first match counts"},
		{"skip-dir", "leave out all directories called `NAME`"},
		{"skip", "leave out all names that match `GLOB`"},
	} {
		f.Var(&filterFlag{&c.Filters, rule[0]}, rule[0], rule[1])
	}
	f.BoolVar(&c.MultiFS, "multi-fs", false, "also copy filesystems that are mounted in SOURCE")
	f.StringVar(&c.Options, "rsync-options", "", "`OPTIONS` of rsync in place of the usual")
	f.StringVar(&c.Marker, "marker", "", "refuse a SOURCE that does not hold `FILE`")
	defineMaxDelete(c, f)
	f.StringVar(&c.MountPoint, "mount-point", "", "refuse a DEST that is not on the disk at `DIR`")
	o.dedup.define(f)
	f.Var(arguments.Time{Of: &c.FullEvery}, "full-every", "compare all of a mirror after `TIME`; 30d")
	f.DurationVar(&c.StallTimeout, "stall-timeout", c.StallTimeout, "end an idle rsync after `TIME`")
	f.StringVar(&c.Tunnel, "tunnel", "", "reach an rsync daemon by SSH to `HOST`")
}

func defineMaxDelete(c *job.Copy, f *pflag.FlagSet) {
	f.IntVar(&c.MaxDelete, "max-delete", c.MaxDelete, "refuse over `PERCENT` of lost files")
}

// filterFlag appends to filters whose order matters.
type filterFlag struct {
	all  *[]job.Filter
	rule string
}

func (f *filterFlag) Type() string   { return "filter" }
func (f *filterFlag) String() string { return "" }
func (f *filterFlag) Set(value string) error {
	*f.all = append(*f.all, job.Filter{Rule: f.rule, Value: value})
	return nil
}

// dedupOptions say whether equal contents are stored once.
type dedupOptions struct{ yes, no bool }

func (o *dedupOptions) define(f *pflag.FlagSet) {
	f.BoolVar(&o.yes, "dedup", false, "share equal contents; on, except on btrfs")
	f.BoolVar(&o.no, "no-dedup", false, "do not share equal contents")
}

// choice gives what was chosen, nil for nothing.
func (o *dedupOptions) choice(c *job.Complaints) *bool {
	if o.yes && o.no {
		c.Add("dedup", "use one of them", "and --no-dedup contradict each other")
	} else if o.yes || o.no {
		return &o.yes
	}
	return nil
}

// newRsyncTopic explains the options that the main help leaves out.
func newRsyncTopic() *cobra.Command {
	c := &cobra.Command{
		Use:         "rsync",
		Short:       "Copy directories that are not btrfs subvolumes",
		Annotations: map[string]string{help.UsageAnnotation: "btrfs-backup [options] SOURCE DEST..."},
		Example: `  btrfs-backup /etc /mnt/usb/etc                      any directory
  btrfs-backup -n 60 --skip-dir .cache /home nas:/backup/home
  btrfs-backup --engine mirror /home /mnt/ext4/home   copies of snapshots
  btrfs-backup --engine rsync /home rsync://nas/home  to an rsync daemon
  btrfs-backup --tunnel me@nas /etc nas::etc          by SSH`,
		Long: `A SOURCE that is not a btrfs subvolume is copied by rsync to each DEST: on btrfs
into a snapshot of the backup before it, elsewhere into a directory in which
unchanged files are hard links. SOURCE may also be HOST::MODULE/DIR or
rsync://HOST/MODULE/DIR of an rsync daemon, and so may DEST; the daemon's
machine then makes the backup by "btrfs-backup freeze". --engine mirror copies
snapshots of a subvolume in the same way, without looking at all files again.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused("rsync is not a command", "use: btrfs-backup --engine rsync SOURCE DEST")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	newBackupOptions(new(job.Spec)).defineRsync(c.Flags())
	return c
}
