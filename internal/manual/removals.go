package manual

import "maps"

func init() { maps.Copy(Commands, removals) }

// deleteStatus is common to the pages of delete and prune.
var deleteStatus = Section{Title: "EXIT STATUS", Items: [][2]string{
	{"0", "All was deleted that was to be."},
	{"1", "Nothing was deleted: something was refused, or failed."},
	{"2", "The command line is wrong, or there is no policy."},
	{"3", "Something was deleted, and something failed."},
	{"75", "A run is at work there."},
}}

// removals are the pages of what deletes without a run.
var removals = map[string]Command{
	"delete": {
		Description: []Section{
			{Macro: "SS", Title: "What is refused", Text: `
Nothing is deleted in a folder that cannot be listed completely, or whose ledger or records cannot be read. Never deleted
is what can be written to, what somebody altered since it was taken or received, a received subvolume of which there is no record
what it is a backup of, a snapshot of what does not exist any more, what is mounted, itself or a directory in it, and the default
subvolume. The error tells what to do.

The newest complete backup of a source in a folder, the newest snapshot, and a snapshot that the ledger holds for a destination
are what the next increment builds upon. That one is refused, with what it means to delete it: the size of a complete copy is
measured where that takes no more than a few seconds. --even-parent deletes it all the same.

A set is deleted as a whole: first its links, then the backup of each member. A single member of a set needs --even-member.
In a store nothing stands for the set, so the backup of each member is named, with --even-member.`},
			{Macro: "SS", Title: "What goes with it", Text: `
With a backup by rsync, its manifest and its record. With a snapshot, its entry in the ledger, so that it holds nothing any more.
The link to the newest leads to the newest that is left. A key that may only add backups cannot delete any. How many bytes of data
become free by all together is told where a few seconds are enough to find out.`},
		},
		Sections: []Section{deleteStatus},
		SeeAlso:  "btrfs-backup(8), btrfs-backup-list(8), btrfs-backup-prune(8)",
	},
	"prune": {
		Description: []Section{
			{Macro: "SS", Title: "What only a run knows", Text: `
From one side it is not known which backups of earlier programs are the source's, and whether a snapshot continues a
source that is gone: such stay, each with the reason, and a run with the source and the destination decides on them.
Snapshots stay as long as it is not on record what the next increment to each destination of their job needs. What an
interrupted run left is no matter of a policy: the next run removes it.`},
		},
		Sections: []Section{deleteStatus},
		SeeAlso:  "btrfs-backup(8), btrfs-backup-explain(8), btrfs-backup-delete(8), btrfs-backup.toml(5)",
	},
	"forget": {
		Sections: []Section{
			{Title: "FILES", Text: `
What is on record stands in .outstanding_transfers in the snapshot folder, and in /var/lib/btrfs-backup/destinations.json on the
machine that makes the backups: run the command there. The backups themselves are not touched.`},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "The destinations are not on record any more."},
				{"1", "A destination is not on record, or a record could not be changed."},
				{"2", "The command line is wrong."},
				{"75", "A run is at work there."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-explain(8)",
	},
}
