package tree

import (
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// mostEntries is how many entries of a directory are looked at for folders of backups.
const mostEntries = 1000

// below gives those of the entries, and of what is in them, that hold backups, by their paths from the folder. What cannot be
// looked into holds none.
func (f *Folder) below(names []string) (folders []string) {
	for _, name := range names[:min(len(names), mostEntries)] {
		if hasState(f.dir, name) {
			folders = append(folders, name)
			continue
		}
		inner, err := readNames(f.dir, name)
		if err != nil {
			continue
		}
		for _, in := range inner[:min(len(inner), mostEntries)] {
			if path := name + "/" + in; hasState(f.dir, path) {
				folders = append(folders, path)
			}
		}
	}
	return folders
}

func hasState(dir *os.File, path string) bool {
	state, err := btrfs.OpenDirAt(dir, path+"/"+StateDir)
	if err != nil {
		return false
	}
	return state.Close() == nil
}
