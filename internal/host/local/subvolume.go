package local

import (
	"fmt"
	"path/filepath"

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
	sub, err := d.openSubvolume(name)
	if err != nil {
		return btrfs.Subvolume{}, err
	}
	defer sub.Close()
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
