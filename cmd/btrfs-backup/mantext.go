//go:build man

package main

// manSection is a part of a man page that help does not show.
type manSection struct {
	macro string // SH, which is the default, or SS
	title string
	text  string
	items [][2]string
}

type manExtra struct {
	description []manSection // below the description
	sections    []manSection // between options and examples
	seeAlso     string
}

// manSections gives what the pages of commands have beyond their help.
var manSections = map[string]manExtra{
	"btrfs-backup": {
		description: []manSection{
			{macro: "SS", title: "Snapshots", text: `
The snapshots are read-only and are named PREFIXYYYYMMDD-HHMMSS, by local time. The snapshot of a
subvolume does not hold the subvolumes in it: each of them needs a backup of its own, and the log
names them.`},
			{macro: "SS", title: "Backups", text: `
Every DEST is sent what it lacks, as an increment to the newest snapshot that both sides hold, and as
a complete copy where there is none. Which backup is the copy of which snapshot is decided by their
UUIDs, whatever their names are, so snapshots and backups that were made by other means count too. A
backup gets its name only when it is complete, verified and on disk.

The destinations are served side by side. One that fails stops neither the snapshot nor the others;
what it lacks is sent the next time.`},
			{macro: "SS", title: "Retention", text: `
With --num-snapshots and --num-backups the oldest are deleted at the end of a run, on each side only
when everything was saved to it. Never deleted are the newest snapshot, those that a destination still
needs as the parent of its next increment, also one that is away today, and what has another name than
PREFIXYYYYMMDD-HHMMSS. --dry-run tells the verdict on each snapshot, and the reason.`},
			{macro: "SS", title: "Argument files", text: `
In a FILE that is named as @FILE every line is one place, or one option with its value behind a space.
Empty lines and lines that begin with # are left out. There are no quotes. A line @OTHER includes
another file, relative to the first. To name a directory that begins with @, write ./@home.`},
		},
		sections: []manSection{
			{title: "EXIT STATUS", items: [][2]string{
				{"0", "Everything was done, or there was nothing to do."},
				{"1", "The run failed."},
				{"2", "The command line is wrong. Nothing was done."},
				{"3", "Some of it was done, and some failed."},
				{"75", "Another run holds the lock, and --no-wait was given."},
				{"129, 130, 143", "A signal ended the run: SIGHUP, SIGINT or SIGTERM."},
			}},
			{title: "FILES", items: [][2]string{
				{"SOURCE/snapshot/", "The snapshots, unless --snapshot-folder names another folder."},
				{"SOURCE/snapshot/.latest", "A symbolic link to the newest snapshot that every destination got; with a prefix, .PREFIX_latest. It is for people and scripts: this program does not read it."},
				{"SOURCE/snapshot/.outstanding_transfers", "What each destination holds and still lacks."},
				{"DEST/.NAME.incoming", "A backup while it is received, or one that was not completed; the next run deletes it."},
				{"DEST/.btrfs-backup/origins.json", "Of which source each backup is."},
			}},
			{title: "ENVIRONMENT", items: [][2]string{
				{"TERM", "With the value dumb, progress is told in lines instead of bars."},
				{"TZ", "The time zone of the names."},
			}},
		},
		seeAlso: "btrfs-backup-list(8), btrfs-subvolume(8), btrfs-send(8), btrfs-receive(8)",
	},
	"list": {
		sections: []manSection{
			{title: "STATES", items: [][2]string{
				{"snapshot", "Read-only, and made here."},
				{"backup", "Read-only, and received completely."},
				{"unfinished", "Being received, or left behind by a run that was ended."},
				{"writable", "Not a snapshot; or left half received by another program."},
			}},
			{title: "EXIT STATUS", items: [][2]string{
				{"0", "Everything was listed."},
				{"1", "A place could not be listed."},
				{"2", "The command line is wrong."},
			}},
		},
		seeAlso: "btrfs-backup(8), btrfs-subvolume(8), btrfs-quota(8)",
	},
}
