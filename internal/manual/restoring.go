package manual

import "maps"

func init() { maps.Copy(Commands, restoring) }

// restoring are the commands that get data back.
var restoring = map[string]Command{
	"restore": {
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "All is restored."},
				{"1", "Nothing is restored. What is left is told; the same command goes on."},
				{"2", "The command line is wrong."},
				{"3", "Not all files are restored, or not all that they had: it is told what."},
				{"75", "Another run holds a lock, and --no-wait was given."},
			}},
		},
		SeeAlso: "btrfs-backup(8), btrfs-backup-list(8), btrfs-subvolume(8)",
	},
}
