package manual

import "maps"

func init() { maps.Copy(Commands, verifications) }

// verifications are the pages of what tells whether a backup is good.
var verifications = map[string]Command{
	"verify": {
		Sections: []Section{
			{Title: "OUTPUT", Text: `
A line for each difference, and one that sums up:`, Items: [][2]string{
				{"missing, unexpected", "The file is gone, or was added."},
				{"type, size, time, mode, owner, target, device, links, xattrs, content", "The property that differs. If the size differs, the content is not read."},
				{"damaged", "The disk does not give that part of the file, or not as it was written. What is behind it is read."},
				{"altered", "The subvolume was changed since it was received, and no manifest tells in what. See --against."},
				{"not readable", "It could not be compared, which counts as a difference."},
			}},
			{Title: "MANIFESTS", Text: `
The manifest of a backup made by rsync is written with it. That of a received subvolume is made when the subvolume is
first verified, unless it was altered or cannot be read: until then, only the checksums of the filesystem are compared. It stands in
.btrfs-backup/manifests of its folder under the UUID of the subvolume, and goes with it. The option --manifest of a run makes it with each backup. Snapshots at a source
have none.

--against compares without any: both sides are read, each on its machine, and only their manifests travel. Left
out is what streams and copies do not carry: times of change and creation, inode numbers, attributes of chattr(1), and the time of the root of
a subvolume. A backup by rsync can be compared with its source; what changed there since differs, too.

--fast reads what differs from the nearest backup in the folder that was verified as a whole, without any difference: the kernel tells
what that is, as for an increment. When and how each backup was verified is kept beside its manifest. --all does the same for each
older backup in a folder, upon the next newer one, and reads again what is damaged there. What was renamed is read again once, for the manifest.
A backup counts as verified at the time when the oldest of what was not read again was read. All that shares damage is on record as damaged, and
read as a whole the next time.

What is read is read from the disk, not from memory. --subset 1/30 reads the files of a 30th of all paths, another
one each day; all other properties are compared each time.`},
			{Title: "HEALING", Text: `
--repair-from reads all of one backup of a subvolume, and heals what the disk does not give, on all devices, also in other backups that share it.
SOURCE is the snapshot that was sent, on any machine. The block is written to its place on the device, if it has the checksum that the
filesystem expects: any other source that has it, such as a copy by rsync, will do as well. Where the kernel does not let anybody write to
the device, in profiles other than single, DUP and RAID1, and if SOURCE has other compressed bytes, the extent is written anew: SOURCE must be the
very snapshot then, and each backup that shares the extent is replaced by a snapshot of itself, with its name, times, and Received UUID.

It needs root where the backup is, and is refused to restricted keys, and while a balance or the replacement of a device
runs. Data without checksums (chattr +C) and metadata are not healed. --dry-run changes nothing, and tells what would be done.`},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "All is as it was when the backup was made, or was healed."},
				{"1", "A backup could not be verified."},
				{"2", "The command line is wrong."},
				{"4", "Something differs, or was not healed."},
				{"75", "With --repair-from: a run holds the lock of the folder."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-rsync(8), sha256sum(1), mtree(5)",
	},
	"relink": {
		Sections: []Section{
			{Title: "WHAT IS DONE", Text: `
BACKUP gets the UUID of SNAPSHOT as its Received UUID, and with it counts as received now. It is hidden and writable for a moment:
if something is written to it meanwhile, it stays what it was. If the program is killed, the next run in that
folder, or the next relink, finishes what began. When, to what, and with which digest the backup was found equal is noted in
.btrfs-backup of its folder.

SNAPSHOT is not touched, also if it was itself altered. If it is a backup of the same snapshot elsewhere, BACKUP counts as
a copy of what that is a copy of.`},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "BACKUP is a copy of SNAPSHOT, again or already."},
				{"1", "They could not be compared, or the mark could not be set."},
				{"2", "The command line is wrong."},
				{"4", "They differ."},
				{"75", "A run holds the lock of the folder."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-verify(8), btrfs-backup-list(8)",
	},
}
