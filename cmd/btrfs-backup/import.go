package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/draft"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/takeover"
)

func newImport(env environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "import PROGRAM",
		Short: "Make jobs of the configuration of another program",
		Example: "  btrfs-backup import btrbk /etc/btrbk/btrbk.conf\n" +
			"  btrfs-backup import vhpi -o vhpi.toml ~/.very_hungry_pi/config.yaml",
		Long: `Print a configuration for /etc/btrfs-backup/conf.d, made of that of another
program. Each line of that is above the key that it became. A line without a
counterpart is marked "not taken over", with the reason, and gives status 3.
Nothing is run, and nothing but the file of --output is written.`,
	}
	c.AddCommand(
		newImportFile(env, takeover.Btrbk, "btrbk", "Make jobs of a configuration of btrbk",
			"/etc/btrbk/btrbk.conf", `Make a job of each subvolume. btrbk's names and its way to choose what is kept
stay as they are, so that the next run sends an increment, and deletes what
btrbk would have deleted.`),
		newImportFile(env, takeover.VeryHungryPi, "vhpi", "Make jobs of a configuration of Very Hungry Pi",
			"~/.very_hungry_pi/config.yaml", `Make a job of each job, and named lists and intervals of those there are. All
versions of Very Hungry Pi are understood.`),
		newImportFile(env, takeover.PiServer, "piserver", "Make a job of a configuration of PiServer Backup",
			"piserver.toml", `Make a job of all sources together, with the hooks. Only what the README of
PiServer Backup tells is known: the rest is marked.`),
		newImportSystemBackup(env))
	return c
}

// importOutput is where the configuration goes.
type importOutput struct{ file string }

func (o *importOutput) define(f *pflag.FlagSet) {
	f.StringVarP(&o.file, "output", "o", "", "write `FILE`, which must not be there yet")
}

// write writes what was taken over, and tells whether it is everything.
func (o *importOutput) write(env environment, r takeover.Result, err error) error {
	if err != nil {
		return err
	}
	if o.file == "" {
		_, err = fmt.Fprint(env.stdout, r.Text)
	} else {
		err = draft.Write(o.file, r.Text)
	}
	if err != nil || r.Left == 0 {
		return err
	}
	env.tell("warning", report.Count(r.Left, "line")+" not taken over: the remarks in the text say why")
	return statusError(exitPartly)
}

func needOneFile(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return misused(fmt.Sprintf("%s is one FILE too many", args[1]), "take over one after the other")
	}
	return needPlace("FILE")(c, args)
}

// newImportFile makes the command that takes over a file.
func newImportFile(env environment, take func(name string, content []byte) (takeover.Result, error),
	program, short, file, long string) *cobra.Command {
	var o importOutput
	c := &cobra.Command{
		Use:     program + " [options] FILE",
		Short:   short,
		Example: "  btrfs-backup import " + program + " " + file,
		Long:    long,
		Args:    needOneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			content, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			r, err := take(args[0], content)
			return o.write(env, r, err)
		},
	}
	o.define(c.Flags())
	return c
}

func newImportSystemBackup(env environment) *cobra.Command {
	var o importOutput
	var given takeover.SystemBackup
	var rotation []string
	c := &cobra.Command{
		Use:     "rsync-system-backup [options] [SOURCE] DESTINATION",
		Short:   "Make a job of a command line of rsync-system-backup",
		Example: "  btrfs-backup import rsync-system-backup -m /mnt/disk /mnt/disk/system/latest",
		Long: `Make a job, and a disk, of a command line: write it as it is in the crontab.
What rotate-backups keeps is read, too.`,
		Args: needPlace("DESTINATION"),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if given.Rotation, err = takeover.ReadRotation(rotation); err != nil {
				return err
			}
			given.Args = args
			r, err := given.TakeOver()
			return o.write(env, r, err)
		},
	}
	o.define(c.Flags())
	c.Flags().StringArrayVar(&rotation, "rotation", nil, "read `FILE`s in place of those of rotate-backups")
	defineSystemBackup(&given, c.Flags())
	return c
}

// defineSystemBackup defines the options of rsync-system-backup.
func defineSystemBackup(given *takeover.SystemBackup, f *pflag.FlagSet) {
	f.BoolVarP(&given.Backup, "backup", "b", false, "a job without retention; alone, it is marked")
	f.BoolVarP(&given.Snapshot, "snapshot", "s", false, "a job without retention; alone, it is none")
	f.BoolVarP(&given.Rotate, "rotate", "r", false, "keep-backups; alone, it is no job")
	f.StringVarP(&given.Mount, "mount", "m", "", "a disk that is mounted at `DIR`")
	f.StringVarP(&given.Crypto, "crypto", "c", "", "a disk that is unlocked as `NAME`")
	f.StringVarP(&given.Tunnel, "tunnel", "t", "", "tunnel = `HOST`")
	f.StringVarP(&given.IONice, "ionice", "i", "", "ionice = `CLASS`")
	f.BoolVarP(&given.NoSudo, "no-sudo", "u", false, "not needed")
	f.BoolVarP(&given.DryRun, "dry-run", "n", false, "not needed")
	f.BoolVar(&given.MultiFS, "multi-fs", false, "multi-fs = true")
	f.StringArrayVarP(&given.Exclude, "exclude", "x", nil, "exclude = [`PATTERN`]")
	f.BoolVarP(&given.Force, "force", "f", false, "not needed")
	f.BoolVar(&given.DisableNotifications, "disable-notifications", false, "not needed")
	f.CountVarP(&given.Verbose, "verbose", "v", "not needed")
	f.CountVarP(&given.Quiet, "quiet", "q", "not needed")
}
