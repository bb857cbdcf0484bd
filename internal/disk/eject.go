package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// wholeDevices gives the names of the drives that hold what is mounted at a directory: those below partitions, mappings and arrays.
func (o Options) wholeDevices(dir string) (names []string, err error) {
	m, err := mountedAt(dir)
	if err != nil || m == nil {
		return nil, err
	}
	name := blockName(m)
	parts := []string{name}
	if m.FSType == "btrfs" {
		if parts, err = devicesOfBtrfs(dir); err != nil {
			return nil, err
		}
	} else if name == "" {
		return nil, nil
	}
	for _, part := range parts {
		names = append(names, o.wholeDevice(part)...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func devicesOfBtrfs(dir string) (names []string, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	id, err := btrfs.FilesystemID(f)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/sys/fs/btrfs/" + id.String() + "/devices")
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, err
}

func (o Options) wholeDevice(name string) (names []string) {
	dir := o.path("sys/class/block", name)
	below, _ := os.ReadDir(dir + "/slaves")
	for _, b := range below {
		names = append(names, o.wholeDevice(b.Name())...)
	}
	switch real, err := filepath.EvalSymlinks(dir); {
	case len(below) > 0:
		return names
	case err == nil && exists(real+"/partition"):
		return []string{filepath.Base(filepath.Dir(real))}
	}
	return []string{name}
}

// eject powers drives off, none of which may be in use in any way.
func (o Options) eject(ctx context.Context, disk string, names []string) error {
	for _, name := range names {
		device := "/dev/" + strings.ReplaceAll(name, "!", "/")
		err := o.patiently(ctx, func() error { return unusedDevice(device) })
		if err == nil {
			err = o.powerOff(ctx, name, device)
		} else if errors.Is(err, errBusy) {
			err = hint.Newf(err, "the disk is unmounted, but something else of %s is in use: see lsblk %s", device, device)
		}
		if err != nil {
			return fmt.Errorf("powering %s off: %w", device, err)
		}
		o.Log.Info(fmt.Sprintf("disk %s: powered off %s: it can be pulled", disk, device))
	}
	return nil
}

// powerOff takes the first way that works.
func (o Options) powerOff(ctx context.Context, name, device string) error {
	var errs []error
	for _, argv := range [][]string{
		{"udisksctl", "power-off", "--no-user-interaction", "--block-device", device},
		{"eject", "--no-unmount", device},
	} {
		if _, isThere := o.program(argv[0]); !isThere {
			continue
		}
		err := o.run(ctx, argv...)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	file, err := os.OpenFile(o.path("sys/block", name, "device/delete"), os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString("1")
		err = errors.Join(err, file.Close())
	}
	if err == nil {
		return nil
	}
	return errors.Join(append(errs, err)...)
}
