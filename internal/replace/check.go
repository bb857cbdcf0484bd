package replace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// check refuses what could not be done, or would be of no use after the next start of the machine, before anything is made.
func (w *work) check(old, snapshot *os.File, info btrfs.Subvolume) (s sorted, err error) {
	if err := w.checkRunning(snapshot, info); err != nil {
		return s, err
	}
	if w.report.Way == Exchange {
		if err := w.checkByID(snapshot, info); err != nil {
			return s, err
		}
	}
	table, err := w.mounts()
	if err != nil {
		return s, err
	}
	w.report.Mounts = mountsOf(table, info)
	var covered []string
	for _, m := range table {
		for _, at := range seenAt(table, w.path(w.name)) {
			if rel, err := filepath.Rel(at, m.Mountpoint); err == nil && filepath.IsLocal(rel) {
				covered = append(covered, rel)
			}
		}
	}
	return w.sort(old, snapshot, covered)
}

// checkNames refuses a name that leaves no room for the ones that it is hidden or kept under.
func (w *work) checkNames() error {
	const number = 5 // see nameAside
	if len(w.hidden()) <= unix.NAME_MAX && len(w.Aside)+number <= unix.NAME_MAX {
		return nil
	}
	return hint.New(fmt.Errorf("%s: %w", w.name, unix.ENAMETOOLONG), "use a name with fewer than 225 bytes")
}

// CheckSnapshotName refuses the name of a snapshot that leaves no room for the one that it has on its way, see movingName.
func CheckSnapshotName(name string) error {
	const most = unix.NAME_MAX - len(".") - len(moving) - len(".") - 2*len(btrfs.UUID{})
	if len(name) <= most {
		return nil
	}
	return hint.Newf(fmt.Errorf("snapshot %s: %w", name, unix.ENAMETOOLONG), "rename it to a name with at most %d bytes", most)
}

// mounts gives the mounts of the machine.
func (w *work) mounts() ([]*mountinfo.Info, error) {
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	own := slices.IndexFunc(table, func(m *mountinfo.Info) bool { return m.ID == w.mount })
	for _, m := range table {
		if own < 0 || m.Major != table[own].Major || m.Minor != table[own].Minor {
			m.Root = "" // of another filesystem
		}
	}
	return table, nil
}

// mountsOf gives where a subvolume is mounted, itself or a directory in it.
func mountsOf(table []*mountinfo.Info, info btrfs.Subvolume) (at []string) {
	for _, m := range table {
		if m.Root != "" && hasID(m.VFSOptions, info.ID) {
			at = append(at, m.Mountpoint)
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// seenAt gives the paths by which a path from the top level of the filesystem is seen.
func seenAt(table []*mountinfo.Info, at string) (paths []string) {
	for _, m := range table {
		if m.Root == "" {
			continue
		}
		if rel, err := filepath.Rel(m.Root, path.Join("/", at)); err == nil && filepath.IsLocal(rel) {
			paths = append(paths, path.Join(m.Mountpoint, rel))
		}
	}
	return paths
}

// checkRunning refuses the root of the running system, unless it may be.
func (w *work) checkRunning(snapshot *os.File, info btrfs.Subvolume) error {
	root, err := os.Open(w.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	same, err := w.isIn(root, info)
	if err != nil || !same {
		return err
	}
	if w.report.Running = true; !w.Running {
		return hint.New(errors.New("this is the root of the running system, which goes on with the old one until it is started anew"),
			"start a rescue system, or use --reboot-needed and reboot at once")
	}
	if snapshot == nil {
		return nil
	}
	return w.checkKernel(root, snapshot)
}

// isIn tells that a directory lies in a subvolume of the filesystem.
func (w *work) isIn(dir *os.File, info btrfs.Subvolume) (bool, error) {
	if err := btrfs.CheckFilesystem(dir); err != nil {
		if errors.Is(err, btrfs.ErrNotBtrfs) {
			err = nil
		}
		return false, err
	}
	in, err := btrfs.Info(dir)
	if err != nil {
		return false, err
	}
	here, err := btrfs.FilesystemID(dir)
	if err != nil {
		return false, err
	}
	there, err := btrfs.FilesystemID(w.top)
	return in.ID == info.ID && here == there, err
}

// checkKernel warns if the kernels in a /boot of its own have no modules in the restored root.
func (w *work) checkKernel(root, snapshot *os.File) error {
	kernels, err := filepath.Glob(filepath.Join(w.Boot, "vmlinuz-*"))
	if err != nil || len(kernels) == 0 {
		return err
	}
	var here, there unix.Stat_t
	if unix.Fstat(int(root.Fd()), &here) != nil || unix.Stat(w.Boot, &there) != nil || here.Dev == there.Dev {
		return nil // it comes with the restored root
	}
	var without []string
	for _, kernel := range kernels {
		version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
		var st unix.Stat_t
		if lstatIn(snapshot, "usr/lib/modules/"+version, &st) == nil || lstatIn(snapshot, "lib/modules/"+version, &st) == nil {
			return nil
		}
		without = append(without, version)
	}
	w.report.Warnings = append(w.report.Warnings, fmt.Sprintf("the restored root has no modules (/lib/modules) of the kernels in %s, which "+
		"is not a part of it: %s; install a kernel from a rescue system, or it may not start", w.Boot, strings.Join(without, ", ")))
	return nil
}

// checkByID refuses a subvolume that something mounts by its ID, which does not go over to the new one.
func (w *work) checkByID(snapshot *os.File, info btrfs.Subvolume) error {
	id, err := btrfs.FilesystemID(w.top)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(w.Fstab)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if line := fstabLine(string(content), info.ID, id); line != "" {
		return byID(w.Fstab, line)
	}
	if snapshot != nil {
		content, _ = readIn(snapshot, "etc/fstab") // which a root has only
		if line := fstabLine(string(content), info.ID, id); line != "" {
			return byID("/etc/fstab in the backup", line)
		}
	}
	content, err = os.ReadFile(w.Cmdline)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for word := range strings.FieldsSeq(string(content)) {
		if flags, ok := strings.CutPrefix(word, "rootflags="); ok && w.report.Running && hasID(flags, info.ID) {
			return byID("the kernel's command line", word)
		}
	}
	return nil
}

func byID(where, line string) error {
	return hint.New(fmt.Errorf("%s mounts the old subvolume by its ID, which the new one does not have: %s", where, line),
		"use subvol=PATH there instead of subvolid=")
}

func readIn(dir *os.File, at string) ([]byte, error) {
	f, err := btrfs.OpenBeneath(dir, at, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, mostRead))
}

// mostRead is how much of a file is read.
const mostRead = 16 << 20

// fstabLine gives the line of a table of filesystems that mounts a subvolume by its ID, or "".
func fstabLine(table string, id uint64, filesystem btrfs.UUID) string {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 4 || strings.HasPrefix(fields[0], "#") || !hasID(fields[3], id) {
			continue
		}
		if uuid, ok := strings.CutPrefix(fields[0], "UUID="); ok && !strings.EqualFold(strings.Trim(uuid, `"`), filesystem.String()) {
			continue
		}
		return strings.TrimSpace(line)
	}
	return ""
}

func hasID(options string, id uint64) bool {
	return slices.ContainsFunc(strings.Split(options, ","), func(option string) bool {
		text, ok := strings.CutPrefix(option, "subvolid=")
		n, err := strconv.ParseUint(text, 0, 64)
		return ok && err == nil && n == id
	})
}
