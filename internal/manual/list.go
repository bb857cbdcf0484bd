package manual

var listColumns = [][2]string{
	{"SENT", "The bytes of the stream that made a backup, if this version of the program sent it."},
	{"SIZE", "Of backups made by rsync, and where quotas are enabled; with --wide also where SENT is known."},
	{"FREED IF DELETED", "Data on the disk that nothing else has: no other snapshot or backup anywhere on the filesystem, and no copy by reflink or " +
		"deduplication. An extent of which another one has a part counts for nobody, and compressed data as it is on the disk. Metadata is left out, " +
		"and what lies in it, as small files do. Deleting two frees more than both numbers, where they share data. Of copies with hard links: the " +
		"files all of whose names are in it. It needs root, and is \"-\" where it is not known within a second, unless --space is given."},
	{"PARENT", "What a snapshot was taken of, or a backup was made upon; \"-\" if that is gone."},
	{"EXCLUSIVE", "What deleting all backups of a folder together would free."},
}

var listNotes = [][2]string{
	{"newest", "The newest complete one of its source."},
	{"next parent", "What the next increment, to that destination, builds upon, as it is on record."},
	{"not yet at", "A destination that lacks it."},
	{"snapshot", "Among backups: read-only, and made here."},
	{"INCOMPLETE", "How many files could not be read when rsync made it, or which members of its set have no backup of this name."},
	{"set of N", "In a store: all N members of its set have a backup of this name."},
	{"unfinished", "Being received, or left behind by a run that was ended."},
	{"writable", "Not a snapshot; or left half received by another program."},
	{"DAMAGED, verified", "What btrfs-backup-verify(8) found in it last, and when."},
	{"chattr of N files", "Files with attributes of chattr(1) that no stream holds: they are on record beside the backup, and restore sets them again."},
	{"altered since", "Somebody changed it since it was taken or received: it is no backup any more."},
}

var usagePage = Command{
	Sections: []Section{
		{Title: "COLUMNS", Items: [][2]string{
			{"OF", "The source, as it is on record; \"?\" if it is not."},
			{"EXCLUSIVE", "Data that deleting all of them together would free. What two sources share by reflink or deduplication counts for neither. " +
				"See FREED IF DELETED in btrfs-backup-list(8)."},
			{"GO IN 30 DAYS", "How many the policy gives up until then, if as many are made as lately; see btrfs-backup-explain(8)."},
			{"WHICH FREES", "Data that nothing else has when these are gone: not the sum of what each has for itself."},
		}},
		{Title: "WHEN IT IS FULL", Text: `
What came is the data that only those backups have that are younger than the newest one which is older than 30 days; if there is none that
old, younger than the first one. Divided by the time in which they came, less what the policy frees, that is the rate. Without
root it is what it took to send them. It is unknown while there are backups of less than a day. What else is
written to the disk, and metadata, is not foreseen.`},
		{Title: "EXIT STATUS", Items: [][2]string{
			{"0", "All places were looked at."},
			{"1", "A place could not be listed, or a record in it not be read."},
			{"2", "The command line is wrong."},
		}},
	},
	SeeAlso: "btrfs-backup(8), btrfs-backup-explain(8), btrfs-backup-list(8), btrfs-backup-prune(8)",
}
