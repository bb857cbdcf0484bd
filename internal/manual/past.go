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
