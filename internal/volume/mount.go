package volume

import (
	"fmt"
	"os"
	"path/filepath"

	"btrfs-backup/btrfs"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// receiveCommand gives the command that receives into the folder.
//
// To find a parent, btrfs receive puts the path of the mount and the path of the parent from the top level together. Where a
// plain directory is mounted (mount --bind) this cannot work, so there the command runs in a mount namespace of its own, in
// which the whole filesystem stands in the mount's place.
func (d *Destination) receiveCommand() ([]string, error) {
	receive := append([]string{program, "receive"}, d.verbosity()...)
	mount, err := mountOf(d.dir)
	if err != nil {
		return nil, err
	}
	if mount == nil || os.Geteuid() != 0 || isSubvolumeRoot(mount.Mountpoint) {
		return append(receive, d.path), nil
	}
	path, err := btrfs.Path(d.dir)
	if err != nil {
		return nil, err
	}
	// the tmpfs is in between because a filesystem cannot be mounted over one of its own mounts
	script := `mount -t tmpfs tmpfs "$2" && mount -t btrfs -o subvolid=5 "$1" "$2" && shift 2 && exec "$@"`
	private := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", mount.Source, mount.Mountpoint}
	return append(append(private, receive...), filepath.Join(mount.Mountpoint, path)), nil
}

// mountOf finds the mount through which dir was opened, or nil where the kernel does not tell (before Linux 5.8).
func mountOf(dir *os.File) (*mountinfo.Info, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(dir.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return nil, nil
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		found := uint64(m.ID) == st.Mnt_id
		return !found, found
	})
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	if len(mounts) == 0 {
		return nil, nil
	}
	return mounts[0], nil
}

func isSubvolumeRoot(path string) bool {
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	return btrfs.CheckSubvolume(dir) == nil
}
