package local

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"btrfs-backup/btrfs"
)

// MustHold fails unless names are those of subvolumes in the directory. An empty name is none.
func (d *Dir) MustHold(names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		if _, err := d.Subvolume(name); err != nil {
			return err
		}
	}
	return nil
}

// Subvolume describes a subvolume in the directory.
func (d *Dir) Subvolume(name string) (btrfs.Subvolume, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return btrfs.Subvolume{}, fmt.Errorf("%q is not the name of a subvolume", name)
	}
	sub, err := btrfs.OpenDirAt(d.dir, name)
	if err != nil {
		return btrfs.Subvolume{}, err
	}
	defer sub.Close()
	if err := btrfs.CheckSubvolume(sub); err != nil {
		return btrfs.Subvolume{}, &fs.PathError{Op: "open", Path: filepath.Join(d.status.Path, name), Err: err}
	}
	return btrfs.Info(sub)
}

// MustBeReceived fails unless the unfinished backup of a name is that of the UUID, and complete.
func (d *Dir) MustBeReceived(name string, uuid btrfs.UUID) error {
	s, err := d.Subvolume(btrfs.Incoming(name))
	if err != nil {
		return err
	}
	if s.UUID != uuid || !s.ReadOnly || s.ReceivedUUID.IsZero() {
		return fmt.Errorf("%s was not received completely", filepath.Join(d.status.Path, name))
	}
	return nil
}
