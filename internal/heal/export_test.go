package heal

import "github.com/btrfs-backup/btrfs-backup/btrfs"

// OpenDevice opens the device of a copy.
func OpenDevice(c btrfs.Copy) error {
	d, err := openDevice(c)
	if err == nil {
		d.Close()
	}
	return err
}
