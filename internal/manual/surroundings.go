package manual

import "maps"

func init() { maps.Copy(Commands, surroundings) }

// surroundings is about what surrounds the jobs of a configuration.
var surroundings = map[string]Command{
	"hooks": {
		SeeAlso: "btrfs-backup(8), btrfs-backup-hooks-finish(8), btrfs-backup.toml(5)",
	},
	"hooks finish": {
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "All of them succeeded, or there were none."},
				{"1", "One of them failed, which is told, and is not run again; or what there is to run could not be read."},
				{"2", "The command line is wrong."},
			}},
			{Title: "FILES", Items: [][2]string{
				{"/run/btrfs-backup/hooks.json", "What is to run after the befores that ran, and of which process. Only root may write to its directory: " +
					"what it names is run. Without root it is in the directory XDG_RUNTIME_DIR/btrfs-backup."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-hooks(8), btrfs-backup-install(8), btrfs-backup.toml(5)",
	},
	"import": {
		Description: []Section{
			{Macro: "SS", Title: "What is left", Text: `
The text begins with remarks. "not taken over" is what this program does in another way, or not at all; "not needed" is
what it does anyway. Keys that stand for all jobs, such as log and [interval], may stand in one file only: config check tells when
another one has them.`},
			{Macro: "SS", Title: "Going on", Text: `
Look at the text, put it into /etc/btrfs-backup/conf.d, and stop what starts the other program, so that both never work on the
same folders. Then "btrfs-backup config check", "btrfs-backup run --dry-run", and "btrfs-backup install".`},
		},
		Sections: []Section{importStatus},
		SeeAlso:  "btrfs-backup(8), btrfs-backup-config(8), btrfs-backup-index(8), btrfs-backup.toml(5)",
	},
	"import btrbk": {
		Description: []Section{
			{Macro: "SS", Title: "What becomes of it", Text: `
A subvolume with its targets is a job with destinations. What is set in a section counts for those in it, as for btrbk; what differs
between targets is in [job.NAME.to."DEST"]. Options of SSH are one for all machines of a job: where they differ, ~/.ssh/config has
room for them. A subvolume with an asterisk becomes a job for each that matches now. Names of snapshots stay those of btrbk
(name, snapshot-prefix), and what is kept is chosen by its rule (compat). btrbk keeps everything unless snapshot_preserve_min or
target_preserve_min is set; the text says so where it applies.

Targets of type raw, "btrbk archive" and ignore_receive_errors are not taken over.`},
		},
		Sections: []Section{importStatus},
		SeeAlso:  "btrfs-backup-import(8), btrbk.conf(5)",
	},
	"import vhpi": {
		Description: []Section{
			{Macro: "SS", Title: "What becomes of it", Text: `
Lists of exclude_lib become [exclude.NAME]; an interval that is no hour, day, week, month or year becomes one in [interval]. The
shortest interval of which snapshots are kept is how often the job runs. rsync_options are split at blanks as by the first version, or as a
shell does as by the last one; those that rsync gets here anyway are left out, unsafe ones are not taken over. Without --one-file-system,
multi-fs = true is set. The first version refused a source without .backup_valid: that is marker.

"btrfs-backup index" of the destination before the first run lets backups share space with those that are there.`},
		},
		Sections: []Section{importStatus},
		SeeAlso:  "btrfs-backup-import(8), btrfs-backup-index(8)",
	},
	"import piserver": {
		Description: []Section{
			{Macro: "SS", Title: "What becomes of it", Text: `
All sources are one set. backup_hooks stand around the run, snapshot_hooks around the snapshots and copies. A source is the directory
that stands in it, under whatever key. What else is in the file is not taken over: how much is kept, for example, is for keep-backups to tell.`},
		},
		Sections: []Section{importStatus},
		SeeAlso:  "btrfs-backup-import(8)",
	},
	"import rsync-system-backup": {
		Description: []Section{
			{Macro: "SS", Title: "What becomes of it", Text: `
The destination is the folder of the dated backups, without "latest". What is kept is read from the first section about that folder in
/etc/rotate-backups.ini, /etc/rotate-backups.d, and the same in the home of the user; without one, it is 24h 7d 4w *m. --mount and
--crypto are a disk, which is no failure if it is not there. "btrfs-backup index" of the destination before the first run lets backups
share space with those that are there.`},
		},
		Sections: []Section{importStatus},
		SeeAlso:  "btrfs-backup-import(8), btrfs-backup-index(8)",
	},
	"install": {
		Description: []Section{
			{Macro: "SS", Title: "What is written", Text: `
One timer asks every 15 minutes, and once after the machine was off or asleep, for what is due. A run gets little of the
processor and the disk while others need them. When it is stopped, it has 15 minutes for hooks and disks, which
is more than one hook may take unless its timeout is set; hooks that a run could not finish are finished by "btrfs-backup hooks finish". Files are replaced when they are as they were written. To change
a unit, use a drop-in: "systemctl edit btrfs-backup.service".

The service has no mounts of its own: PrivateTmp, ProtectSystem and other settings that give it some would hide the disks that
it mounts from everybody else.`},
			{Macro: "SS", Title: "Disks", Text: `
The rule of udev looks for the UUID of the filesystem, or of the LUKS container if there is one, in which case /etc/crypttab
must have its UUID. A disk whose UUID is not known is named, and jobs that need it wait for the timer. Give the command again when a disk is added to the configuration.`},
			{Macro: "SS", Title: "Which program", Text: `
The units name the program that writes them. It must be where only root can change it, and not in a home or in /tmp.`},
		},
		Sections: []Section{
			{Title: "FILES", Items: [][2]string{
				{"/etc/systemd/system/btrfs-backup.timer, /etc/systemd/system/btrfs-backup.service", "Run what is due. With --user they are in ~/.config/systemd/user."},
				{"/etc/systemd/system/btrfs-backup-disk@.service, /etc/udev/rules.d/90-btrfs-backup.rules", "Run what waits for a disk when it is plugged in."},
				{"/etc/cron.d/btrfs-backup", "Runs what is due, where there is no systemd or with --cron."},
			}},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "The system runs what is due."},
				{"1", "It does not; what was written stays."},
				{"2", "The command line or the configuration is wrong. Nothing was done."},
				{"3", "A file was changed since it was written, or is not ours, and was left alone."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-uninstall(8), btrfs-backup-config(8), btrfs-backup.toml(5), systemd.timer(5), udev(7), crontab(5)",
	},
	"uninstall": {
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "Nothing is installed any more."},
				{"1", "Something could not be stopped or removed."},
				{"2", "The command line is wrong."},
				{"3", "A file was changed since it was written, or is not ours, and was left alone."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-install(8)",
	},
}
