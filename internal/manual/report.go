package manual

var reportPage = Command{
	Description: []Section{
		{Macro: "SS", Title: "The calendars", Text: `
Each column is a week that begins on Monday, each cell a day. The first calendar shows what is there: what stays as far as
is foreseen, what a run will delete within 30 days, or later, or the next time, and what is damaged or not complete. Point at a
cell to see the names, what was sent, until when they stay, and why; the list below tells the same to a keyboard and a screen
reader. The second one shows what the policy will have left in a year, if as many backups are made as lately.

In characters, a digit is the number of days of a week that have a backup.`},
		{Macro: "SS", Title: "Where it comes from", Text: `
Whether a destination is good, and when a run is due, is as btrfs-backup-status(8) says; what goes, when and why, is as
btrfs-backup-explain(8) says with the policy of the job. What was sent, what was free and what runs told comes from the history of
this machine, which has some thousand runs. Where a destination gives no answer, the names on record are shown.
Of directories that rsync copied, NEW are the bytes of files that were copied and whose content was not there yet, LINKED those of
the others.`},
		{Macro: "SS", Title: "--serve", Text: `
ADDRESS is a port of 127.0.0.1, or of another loopback address: the page can be seen on this machine alone, but by each of its
users. It has no login, since nothing can be changed by it. What another site has a browser ask is refused: the name in the request must be
ADDRESS or localhost with its port, and the request must come from the page itself. The destinations are looked at when the page is opened
or loaded again, at most once a minute, and when a run has ended. From another machine, forward the port by ssh(1):
ssh -L 8090:127.0.0.1:8090 HOST.

Runs of the same user tell how far they have come in /run/btrfs-backup/underway, or in $XDG_RUNTIME_DIR. What is there of a run that was
killed is not shown.`},
	},
	Sections: []Section{
		{Title: "EXIT STATUS", Items: [][2]string{
			{"0", "The report was made, whatever it tells; or --serve was ended."},
			{"1", "It could not be written, or served."},
			{"2", "The command line or the configuration is wrong."},
		}},
	},
	SeeAlso: "btrfs-backup(8), btrfs-backup-status(8), btrfs-backup-explain(8), btrfs-backup-verify(8)",
}
