package manual

import "maps"

func init() { maps.Copy(Commands, restoring) }

// restoring are the commands that get data back.
var restoring = map[string]Command{
	"restore": {
		Sections: []Section{
			{Title: "STORES", Text: `A store is named as it is as a destination: s3://[ENDPOINT/]BUCKET[/PREFIX], store:/FOLDER or
store+ssh://HOST/FOLDER. "btrfs-backup list STORE" shows the sources in it and their names.

A backup is read with one of the secret keys: --identity names the file of one, of age or of SSH; "-i -" lets you type the paper key. With
--dry-run none is needed but for --path.

A backup that was stored as an increment comes back with all that it builds on. How many objects that are, and how many bytes, is told
before; what does not fit on the filesystem of TARGET is refused. What that filesystem has already is not fetched.

Backups are signed by the machine that made them, and those count whose key this machine knows: its own, those that were recorded, and
--signer KEY. A machine that knows none takes the key that signed all of them, says so, and records it. If several keys signed backups of
a source, and none is known, one may be a thief's: nothing is restored until --signer names one.

With --path, only the parts of the streams are fetched that hold data of the files, or of others that data was cloned from: how many, and
of how many, is told before. The files are taken out on a btrfs of this machine, where they are removed again: the directory of --to, /var/tmp,
/home or /, or else --scratch DIR.

What was restored goes on in the store as the source that it was, also under another path and on another machine: the next backup is an
increment.

If a part is damaged or missing, it is told which, and which backup can be restored in its place. Nothing of it stands under TARGET. If a
restore ends in the middle, the same command goes on with the backups that are missing.`},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "All is restored."},
				{"1", "Nothing is restored. What is left is told; the same command goes on."},
				{"2", "The command line is wrong."},
				{"3", "Not all files are restored, or not all that they had: it is told what."},
				{"75", "Another run holds a lock, and --no-wait was given; or what is needed is in an archive, and was called back: it is told when " +
					"the same command can go on."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-list(8), btrfs-subvolume(8)",
	},
}
