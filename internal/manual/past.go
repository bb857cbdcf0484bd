package manual

var diffPage = Command{
	Description: []Section{
		{Macro: "SS", Title: "What is shown", Text: `
A directory that was renamed is one line, whatever is in it. A file that was written anew under its name, as editors do, is
M; if it has the size and time that it had, which of unrelated subvolumes all files have, it is counted in a line below and not
shown. Sizes are those before and after. The time of a directory, and what this program keeps in a snapshot folder, are not
shown. B may be older than A: what is shown leads from A to B.`},
		{Macro: "SS", Title: "How they are compared", Text: `
Two subvolumes on one filesystem are compared by the kernel, as for an increment, which takes as long as there are changes.
That needs root. If A and B lie on two filesystems, the copy of one beside the other stands for it, if there is one: copies are known
by their UUIDs. Otherwise, and for copies by rsync, their manifests are compared: every copy by rsync has one, and "btrfs-backup
verify" makes that of another backup. Renamed files are D and A then.`},
	},
	Sections: []Section{
		{Title: "EXIT STATUS", Items: [][2]string{
			{"0", "All was shown, whether or not something differs."},
			{"1", "They cannot be compared."},
			{"2", "The command line is wrong."},
		}},
	},
	SeeAlso: "btrfs-backup(8), btrfs-backup-list(8), btrfs-backup-verify(8)",
}

var versionsPage = Command{
	Sections: []Section{
		{Title: "WHERE IT LOOKS", Text: `
Into the snapshots of the subvolume that FILE is in, and into the backups at the destinations that the record of these
snapshots, the configuration, or the history of runs names for a source above FILE; or into each PLACE in place of those. The store of
a command and an rsync daemon cannot be looked into, and are named. Of a FILE in a snapshot or backup, that folder alone is looked into, and each
PLACE. Another machine is asked once for all that a folder holds.`},
		{Title: "WHAT IS ONE VERSION", Text: `
Two files of one size are one version if they were modified at the same time, to the nanosecond, or if their content is at the same place
of the disk. Small files, of up to 64 KiB, are read where that does not tell. An ordinary user sees the versions of files that he may
read; what is on the disk where, and former names, only root sees. Names are followed where inode numbers stay, that is in snapshots and
backups of a subvolume, not in copies by rsync.`},
		{Title: "COLUMNS", Items: [][2]string{
			{"MODIFIED", "When it was modified, in the newest snapshot or backup that has it."},
			{"IN", "The oldest and the newest snapshot or backup with this content. Between them, the file may have had another one."},
			{"COUNT", "In how many it is."},
			{"AT", "In which of the places above the table."},
		}},
		{Title: "EXIT STATUS", Items: [][2]string{
			{"0", "All places were looked into, whether or not they hold the file."},
			{"1", "None could be looked into."},
			{"2", "The command line is wrong."},
			{"3", "Some could not be looked into; what the others hold was shown."},
		}},
	},
	SeeAlso: "btrfs-backup(8), btrfs-backup-diff(8), btrfs-backup-restore(8)",
}
