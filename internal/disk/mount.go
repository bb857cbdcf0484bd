package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A mount is what is mounted at the place of a disk.
type mount struct {
	*mountinfo.Info
	id uint64 // no other mount gets it, where the kernel has such numbers (Linux 6.8)
}

// mountedAt gives what is mounted at a directory, nil if that is nothing, or something that mounts the disk when it is used.
func mountedAt(dir string) (*mount, error) {
	all, err := mountsAt(dir)
	all = slices.DeleteFunc(all, func(m *mountinfo.Info) bool { return m.FSType == "autofs" })
	if err != nil || len(all) == 0 {
		return nil, err
	}
	top := all[len(all)-1]
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, top.Mountpoint, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID_UNIQUE|unix.STATX_MNT_ID, &st); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", dir, err)
	}
	return &mount{top, st.Mnt_id}, nil
}

// mountsAt gives what is mounted at a directory. The last one hides the others.
func mountsAt(dir string) ([]*mountinfo.Info, error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(real))
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	return all, nil
}

// isAutomount tells that using the directory mounts it.
func isAutomount(dir string) bool {
	all, _ := mountsAt(dir) // which mountedAt tells
	return len(all) > 0 && all[len(all)-1].FSType == "autofs"
}

// mount mounts the disk in the way that is known on this machine.
func (d Disk) mount(ctx context.Context, o Options) error {
	argv, err := d.howToMount(ctx, o)
	if err != nil {
		return err
	}
	if isAutomount(d.Mount) {
		dir, err := os.Open(d.Mount)
		if err == nil {
			err = dir.Close()
		}
		return err
	}
	err = o.run(ctx, argv...)
	if err != nil && !exists(d.Mount) {
		return hint.Newf(err, "make the directory: mkdir -p %s", d.Mount)
	}
	return err
}

// howToMount gives the command for it. An entry in /etc/fstab comes first, then a mount unit of systemd.
func (d Disk) howToMount(ctx context.Context, o Options) (argv []string, err error) {
	source, inTable, err := o.fstabSource(d.Mount)
	if err != nil {
		return nil, err
	}
	if inTable {
		argv = []string{"mount", d.Mount}
		if o.root != "" {
			argv = []string{"mount", "--fstab", o.path("etc/fstab"), d.Mount}
		}
	} else if unit, what := d.unit(ctx, o); unit != "" {
		source, argv = what, []string{"systemctl", "--no-ask-password", "start", unit}
	}
	switch {
	case d.LUKS != "": // it was there to be unlocked
		if argv == nil {
			argv = []string{"mount", o.path("dev/mapper", d.LUKS), d.Mount}
		}
		return argv, nil
	case argv == nil && d.UUID == "":
		return nil, hint.Newf(fmt.Errorf("neither /etc/fstab nor systemd knows what to mount at %s", d.Mount),
			"add a line for %s to /etc/fstab, or give the disk's uuid", d.Mount)
	}
	source = cmp.Or(source, "UUID="+d.UUID)
	device, err := o.device(ctx, source)
	switch {
	case err != nil:
		return nil, err
	case device == "":
		return nil, &AbsentError{d.Name, source}
	case argv == nil:
		argv = []string{"mount", device, d.Mount}
	}
	return argv, nil
}

// unit gives the mount unit that systemd has for the directory, and what it mounts; "" where there is none.
func (d Disk) unit(ctx context.Context, o Options) (unit, what string) {
	unit, err := o.output(ctx, "systemd-escape", "--path", "--suffix=mount", d.Mount)
	if err != nil {
		return "", ""
	}
	unit = strings.TrimSpace(unit)
	told, err := o.output(ctx, "systemctl", "show", "--property=LoadState,What", unit)
	if err != nil {
		return "", ""
	}
	isLoaded := false
	for line := range strings.Lines(told) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "LoadState":
			isLoaded = value == "loaded"
		case "What":
			what = value
		}
	}
	if !isLoaded {
		return "", ""
	}
	return unit, what
}

// checkIdentity refuses another filesystem than that of the disk.
func (d Disk) checkIdentity(ctx context.Context, o Options, m *mount) error {
	if d.UUID == "" {
		return nil
	}
	uuid, err := o.uuid(ctx, m)
	if err != nil {
		return fmt.Errorf("looking for the UUID of the filesystem at %s: %w", d.Mount, err)
	}
	if !strings.EqualFold(uuid, d.UUID) {
		return hint.New(fmt.Errorf("%s has the filesystem %s, not %s", d.Mount, cmp.Or(uuid, "of "+m.Source), d.UUID),
			"another disk is mounted there: unmount it, or correct the disk's uuid")
	}
	return nil
}

// uuid gives the UUID of a filesystem, "" if it has none.
func (o Options) uuid(ctx context.Context, m *mount) (string, error) {
	if m.FSType == "btrfs" {
		dir, err := os.Open(m.Mountpoint)
		if err != nil {
			return "", err
		}
		defer dir.Close()
		id, err := btrfs.FilesystemID(dir)
		return id.String(), err
	}
	name := blockName(m)
	if name == "" {
		return "", nil
	}
	uuid, err := o.output(ctx, "blkid", "--probe", "--match-tag", "UUID", "--output", "value", "/dev/"+name)
	return strings.TrimSpace(uuid), err
}

// blockName gives the name of the block device with a filesystem, "" if there is none.
func blockName(m *mount) string {
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", m.Major, m.Minor))
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(filepath.Base(link), "!", "/")
}
