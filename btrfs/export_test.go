package btrfs

// FindTouched is what List does with each subvolume of the directory.
var FindTouched = (*Subvolume).findTouched
