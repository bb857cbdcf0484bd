package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
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
	on, err := mountOf(real)
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

// mountOf gives the ID of the mount that a directory is seen through (proc(5), /proc/PID/fdinfo).
func mountOf(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	var id int
	for line := range strings.Lines(string(info)) {
		if _, err := fmt.Sscanf(line, "mnt_id: %d", &id); err == nil {
			return id, nil
		}
	}
	return 0, fmt.Errorf("%s: its mount is not known", dir)
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
