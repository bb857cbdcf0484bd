package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestDiskIsPoweredOffInTheFirstWayThatWorks(t *testing.T) {
	for name, c := range map[string]struct {
		udisksctl, eject string
		want             string
	}{
		"udisksctl": {"exit 0", "exit 0", "udisksctl power-off --no-user-interaction --block-device DEVICE"},
		"eject":     {"exit 1", "exit 0", "udisksctl power-off --no-user-interaction --block-device DEVICE\neject --no-unmount DEVICE"},
		"sysfs":     {"exit 1", "exit 1", "udisksctl power-off --no-user-interaction --block-device DEVICE\neject --no-unmount DEVICE"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.disk.Eject = true
			r.program("udisksctl", c.udisksctl)
			r.program("eject", c.eject)
			file := filepath.Join("sys/block", filepath.Base(r.fs.Device), "device/delete")
			r.write(file, "")
			r.close(r.open())
			r.mustBeMounted(false)
			r.mustHaveCalled(strings.Split(strings.ReplaceAll(c.want, "DEVICE", r.fs.Device), "\n")...)
			content, err := os.ReadFile(filepath.Join(r.root, file))
			btrfstest.Check(t, err)
			if deleted := string(content) == "1"; deleted != (name == "sysfs") {
				t.Errorf("device/delete has %q", content)
			}
			r.mustSay("can be pulled")
		})
	}
}

func TestNoDriveInUseIsPoweredOff(t *testing.T) {
	r := newRig(t)
	r.disk.Eject = true
	r.program("udisksctl", "")
	opened := r.open()
	elsewhere := t.TempDir()
	btrfstest.Run(t, "mount", r.fs.Device, elsewhere)
	defer btrfstest.Unmount(t, elsewhere)
	err := opened.Close(t.Context())
	if err == nil || !strings.Contains(err.Error(), "powering "+r.fs.Device+" off: in use") || hint.Of(err) == "" {
		t.Errorf("%v; %s", err, hint.Of(err))
	}
	r.mustBeMounted(false)
	r.mustHaveNoNote()
	r.mustHaveCalled()
}

func TestDrivesBelowPartitionsAndMappingsAreFound(t *testing.T) {
	root := t.TempDir()
	o := Options{root: root}
	for _, dir := range []string{"class/block", "devices/sda/sda1", "devices/sdb", "devices/dm-0/slaves/sda1", "devices/dm-1/slaves/dm-0", "devices/dm-1/slaves/sdb"} {
		btrfstest.Check(t, os.MkdirAll(filepath.Join(root, "sys", dir), 0o755))
	}
	btrfstest.Check(t, os.WriteFile(filepath.Join(root, "sys/devices/sda/sda1/partition"), nil, 0o644))
	for _, device := range []string{"sda", "sda/sda1", "sdb", "dm-0", "dm-1"} {
		btrfstest.Check(t, os.Symlink("../../devices/"+device, filepath.Join(root, "sys/class/block", filepath.Base(device))))
	}
	for name, want := range map[string]string{"sda": "[sda]", "sda1": "[sda]", "sdb": "[sdb]", "dm-0": "[sda]", "dm-1": "[sda sdb]"} {
		if got := fmt.Sprint(o.wholeDevice(name)); got != want {
			t.Errorf("below %s: %s, want %s", name, got, want)
		}
	}
}
