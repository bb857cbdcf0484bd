package btrfs

import "os"

// FindTouched is what List does with each subvolume of the directory, for the first time.
func FindTouched(s *Subvolume, dir *os.File) error {
	searched.Delete(state{s.UUID, s.ChangedIn})
	return s.findTouched(dir)
}
