package btrfs

import "os"

// FindAltered is what List does with each subvolume of the directory, for the first time.
func FindAltered(s *Subvolume, dir *os.File) error {
	searched.Delete(state{s.UUID, s.ChangedIn})
	return s.findAltered(dir)
}
