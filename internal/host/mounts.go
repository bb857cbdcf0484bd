package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"github.com/moby/sys/mountinfo"
)

// A Mount is what is mounted within a directory of this machine.
type Mount struct {
	Path string // from the directory
	// Private tells of a FUSE filesystem that only the user who mounted it may look at, not even root.
	Private bool
	File    bool // it is mounted on a file
}

// ofTheKernel are the types of filesystems that hold no files of anybody, and of those that only wait for a use to be mounted.
var ofTheKernel = strings.Fields("proc sysfs devtmpfs devpts cgroup cgroup2 mqueue debugfs tracefs securityfs pstore bpf efivarfs " +
	"configfs fusectl hugetlbfs binfmt_misc rpc_pipefs nsfs selinuxfs nfsd autofs")

// temporary are the directories of the root whose mounts are those of the running system, and of other disks.
var temporary = strings.Fields("/dev /proc /sys /run /tmp /var/tmp /mnt /media")

// MountsIn gives what is mounted below a directory of this machine, in order, but for filesystems of the kernel. For the root
// directory, mounts of the running system are left out, too. Nothing is looked at but the mount table: what does not answer
// holds nothing up, and nothing is mounted by looking.
func MountsIn(dir string) ([]Mount, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	top, err := walk.OpenPath(real)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	on, err := walk.MountID(top)
	if err != nil {
		return nil, err
	}
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	var mounts []Mount
	for _, m := range reachable(table, on, real) {
		if slices.Contains(ofTheKernel, m.FSType) || real == "/" && isTemporary(m.Mountpoint) {
			continue
		}
		path, err := filepath.Rel(real, m.Mountpoint)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, Mount{Path: path, Private: isPrivate(m), File: isFile(m)})
	}
	slices.SortFunc(mounts, func(a, b Mount) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(mounts, func(a, b Mount) bool { return a.Path == b.Path }), nil
}

// MountOf gives the mount through which a file was opened, or nil if that is not in the mount table.
func MountOf(file *os.File) (*mountinfo.Info, error) {
	id, err := walk.MountID(file)
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.ID != id, m.ID == id })
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	if len(mounts) == 0 {
		return nil, nil
	}
	return mounts[0], nil
}

// reachable gives the mounts below a directory that paths lead to from there: not those that a later mount hides.
func reachable(table []*mountinfo.Info, on int, dir string) (found []*mountinfo.Info) {
	for _, m := range table {
		if m.Parent != on || m.ID == on || !isBelow(m.Mountpoint, dir) {
			continue
		}
		if hides := func(n *mountinfo.Info) bool {
			return n.Parent == on && n.ID != on && isBelow(n.Mountpoint, dir) && isBelow(m.Mountpoint, n.Mountpoint)
		}; !slices.ContainsFunc(table, hides) {
			found = append(append(found, m), reachable(table, m.ID, dir)...)
		}
	}
	return found
}

// isBelow tells that a path leads through a directory.
func isBelow(path, dir string) bool {
	return path != dir && strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func isTemporary(path string) bool {
	return slices.ContainsFunc(temporary, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}

// isPrivate tells what the kernel decides (linux/fs/fuse/dir.c: fuse_permissible_uidgid).
func isPrivate(m *mountinfo.Info) bool {
	options := strings.Split(m.VFSOptions, ",")
	return strings.HasPrefix(m.FSType, "fuse") && !slices.Contains(options, "allow_other") &&
		!slices.Contains(options, "user_id="+strconv.Itoa(os.Geteuid()))
}

// isFile looks at a mount point where that cannot take long.
func isFile(m *mountinfo.Info) bool {
	local := []string{"btrfs", "ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs", "overlay", "zfs", "bcachefs", "squashfs"}
	if !slices.Contains(local, m.FSType) {
		return false
	}
	info, err := os.Lstat(m.Mountpoint)
	return err == nil && !info.IsDir()
}
