package schedule

import (
	"fmt"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/disk"
)

// DisksOf gives disks as udev sees them.
func DisksOf(disks []disk.Disk) (all []Disk, err error) {
	for _, d := range disks {
		uuid, lack, err := d.Plugged()
		if err != nil {
			return nil, err
		}
		all = append(all, Disk{Name: d.Name, UUID: uuid, Lack: lack})
	}
	return all, nil
}

// Print shows the files that Install writes, and what these do not tell.
func (i Installation) Print(w io.Writer) error {
	if err := i.CheckNames(); err != nil {
		return err
	}
	for _, line := range i.Unnoticed() {
		if _, err := fmt.Fprintf(w, "# %s\n\n", line); err != nil {
			return err
		}
	}
	for _, f := range i.Files() {
		if _, err := fmt.Fprintf(w, "# %s\n%s\n", f.Path, f.Content); err != nil {
			return err
		}
	}
	return nil
}
