package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

func TestCheckComplainsOfAllThatIsWrong(t *testing.T) {
	good := Disk{Name: "usb", Mount: "/mnt/usb", UUID: "7c1b0a52-5a41-4c0e-9d8e-0c6c3c1f8a11", LUKS: "usb_crypt", WhenAbsent: "skip"}
	for _, d := range []Disk{good, {Name: "a", Mount: "/a"}, {Name: "a", Mount: "/a", UUID: "3A4F-11B2", WhenAbsent: "fail"}, {Name: "a", Mount: "/a", UUID: "52A0C1F8A0C1E0B3"}} {
		if c := d.Check(); len(c) > 0 {
			t.Errorf("%+v: %v", d, c)
		}
	}
	bad := Disk{Name: "../usb", Mount: "mnt", UUID: "7c1b", LUKS: "a/b", WhenAbsent: "never"}
	var settings []string
	for _, c := range bad.Check() {
		settings = append(settings, c.Setting)
		if hint.Of(c) == "" {
			t.Errorf("%v has no hint", c)
		}
	}
	if got := strings.Join(settings, " "); got != " mount uuid luks when-absent" {
		t.Errorf("complained of %q", got)
	}
	for _, mount := range []string{"", "/", "//"} {
		if c := (Disk{Name: "a", Mount: mount}).Check(); len(c) != 1 {
			t.Errorf("mount %q: %v", mount, c)
		}
	}
}

func TestDiskIsMountedByItsUUIDAndUnmounted(t *testing.T) {
	r := newRig(t)
	opened := r.open()
	r.mustBeMounted(true)
	r.close(opened)
	r.mustBeMounted(false)
	r.mustHaveNoNote()
}

func TestDiskIsMountedAsFstabSays(t *testing.T) {
	r := newRig(t)
	r.disk.Mount = filepath.Join(t.TempDir(), "with blank")
	btrfstest.Check(t, os.Mkdir(r.disk.Mount, 0o755))
	r.write("etc/fstab", "# comment\nUUID=%s %s btrfs noauto,noatime,compress=zstd 0 0\n", r.fs.uuid, strings.ReplaceAll(r.disk.Mount, " ", `\040`))
	r.disk.UUID = ""
	opened := r.open()
	m, err := mountedAt(r.disk.Mount)
	btrfstest.Check(t, err)
	if !strings.Contains(m.Options, "noatime") || !strings.Contains(m.VFSOptions, "compress=zstd") {
		t.Errorf("mounted with %s %s", m.Options, m.VFSOptions)
	}
	r.close(opened)
	r.mustBeMounted(false)
}

func TestDiskIsMountedByItsUnitOfSystemd(t *testing.T) {
	r := newRig(t)
	r.disk.UUID = ""
	r.program("systemd-escape", "echo mnt.mount")
	r.program("systemctl", fmt.Sprintf(`case $1 in show) echo LoadState=loaded; echo What=%s;; *) exec mount %s %s;; esac`, r.fs.Device, r.fs.Device, r.disk.Mount))
	opened := r.open()
	r.mustBeMounted(true)
	r.close(opened)
	r.mustBeMounted(false)
	r.mustHaveCalled("systemd-escape --path --suffix=mount "+r.disk.Mount, "systemctl show --property=LoadState,What mnt.mount",
		"systemctl --no-ask-password start mnt.mount")
}

func TestWhatNobodyKnowsHowToMountIsAnErrorWithAHint(t *testing.T) {
	r := newRig(t)
	r.disk.UUID = ""
	if err := r.fails(); !strings.Contains(err.Error(), "/etc/fstab") || !strings.Contains(hint.Of(err), r.disk.Mount) {
		t.Errorf("%v; %s", err, hint.Of(err))
	}
}

func TestMissingDirectoryIsAnErrorWithAHint(t *testing.T) {
	r := newRig(t)
	r.disk.Mount += "/missing"
	if err := r.fails(); !strings.Contains(hint.Of(err), "mkdir -p "+r.disk.Mount) {
		t.Errorf("%v; %s", err, hint.Of(err))
	}
}

func TestAbsentDiskIsTold(t *testing.T) {
	const unknown = "01234567-89ab-cdef-0123-456789abcdef"
	for name, plug := range map[string]func(r *rig){
		"by uuid":            func(r *rig) { r.disk.UUID = unknown },
		"in fstab by uuid":   func(r *rig) { r.write("etc/fstab", "UUID=%s %s btrfs noauto\n", unknown, r.disk.Mount) },
		"in fstab by label":  func(r *rig) { r.write("etc/fstab", "LABEL=nobody_has_this %s btrfs noauto\n", r.disk.Mount) },
		"in fstab by device": func(r *rig) { r.write("etc/fstab", "/dev/nothing %s btrfs noauto\n", r.disk.Mount) },
		"udev has no link":   func(r *rig) { r.write("dev/disk/by-uuid/other", "") },
		"in crypttab": func(r *rig) {
			r.disk.LUKS = "usb_crypt"
			r.write("etc/crypttab", "usb_crypt UUID=%s none luks\n", unknown)
		},
		"unit of systemd": func(r *rig) {
			r.program("systemd-escape", "echo mnt.mount")
			r.program("systemctl", "[ \"$1\" = show ] && echo LoadState=loaded && echo What=/dev/nothing")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			plug(r)
			err := r.fails()
			if absent := (*AbsentError)(nil); !errors.As(err, &absent) || absent.Disk != "usb" || hint.Of(err) == "" {
				t.Errorf("%v; %s", err, hint.Of(err))
			}
		})
	}
}

func TestDiskIsFoundByTheLinkOfUdev(t *testing.T) {
	r := newRig(t)
	btrfstest.Check(t, os.MkdirAll(filepath.Join(r.root, "dev/disk/by-uuid"), 0o755))
	btrfstest.Check(t, os.Symlink(r.fs.Device, filepath.Join(r.root, "dev/disk/by-uuid", r.fs.uuid)))
	r.disk.UUID = strings.ToUpper(r.fs.uuid)
	r.program("findfs", "exit 1")
	r.close(r.open())
	r.mustHaveCalled()
}

func TestDiskThatIsMountedStaysSo(t *testing.T) {
	r := newRig(t)
	r.disk.Eject = true
	r.program("udisksctl", "")
	btrfstest.Run(t, "mount", r.fs.Device, r.disk.Mount)
	r.close(r.open())
	r.mustBeMounted(true)
	r.mustHaveNoNote()
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustBeMounted(true)
	r.mustHaveCalled()
}

func TestAnotherFilesystemIsRefused(t *testing.T) {
	r := newRig(t)
	other := unplugged(t)
	btrfstest.Run(t, "mount", other.Device, r.disk.Mount)
	_, err := r.disk.Open(t.Context(), r.options)
	if err == nil || !strings.Contains(err.Error(), other.uuid) || hint.Of(err) == "" {
		t.Errorf("%v; %s", err, hint.Of(err))
	}
	r.mustBeMounted(true) // by somebody else
	btrfstest.Unmount(t, r.disk.Mount)

	btrfstest.Run(t, "mount", "--bind", t.TempDir(), r.disk.Mount)
	if _, err := r.disk.Open(t.Context(), r.options); err == nil {
		t.Error("a bind mount of another filesystem was taken for the disk")
	}
	btrfstest.Unmount(t, r.disk.Mount)

	r.write("etc/fstab", "%s %s btrfs noauto\n", other.Device, r.disk.Mount)
	if err := r.fails(); !strings.Contains(err.Error(), other.uuid) {
		t.Error(err)
	}
}

func TestIdentityOfAnotherKindOfFilesystemIsChecked(t *testing.T) {
	r := newRig(t)
	ext4 := btrfstest.NewOther(t, "ext4", 16<<20)
	btrfstest.Run(t, "mount", "--bind", ext4.Dir, r.disk.Mount)
	if _, err := r.disk.Open(t.Context(), r.options); err == nil || !strings.Contains(err.Error(), r.disk.UUID) {
		t.Error(err)
	}
	r.disk.UUID = btrfstest.Run(t, "blkid", "-p", "-s", "UUID", "-o", "value", ext4.Device)
	r.close(r.open())
}

// holder is a process that works in a directory.
func (r *rig) holder(dir string) *exec.Cmd {
	r.Helper()
	cmd := exec.Command("cat")
	cmd.Dir = dir
	_, err := cmd.StdinPipe()
	btrfstest.Check(r, err)
	btrfstest.Check(r, cmd.Start())
	r.Cleanup(func() { end(cmd) })
	return cmd
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func TestDiskInUseStaysOpenAndItsHolderIsNamed(t *testing.T) {
	r := newRig(t)
	r.disk.Eject = true
	r.program("udisksctl", "")
	opened := r.open()
	holder := r.holder(r.disk.Mount)
	err := opened.Close(t.Context())
	var busy *BusyError
	if !errors.As(err, &busy) || len(busy.Holders) != 1 || busy.Holders[0] != (Holder{holder.Process.Pid, "cat", r.disk.Mount}) {
		t.Fatalf("%v %+v", err, busy)
	}
	if want := fmt.Sprintf("disk usb: unmounting %s: in use by process %d (cat) at %[1]s", r.disk.Mount, holder.Process.Pid); err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	r.mustBeMounted(true)
	r.mustHaveCalled()
	end(holder)
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustBeMounted(false)
	r.mustHaveNoNote()
}

func TestEachKindOfHolderIsFound(t *testing.T) {
	r := newRig(t)
	opened := r.open()
	below, file := filepath.Join(r.disk.Mount, "below"), filepath.Join(r.disk.Mount, "file")
	btrfstest.Check(t, os.Mkdir(below, 0o755))
	btrfstest.Check(t, os.WriteFile(file, make([]byte, 1<<20), 0o644))
	mustFind := func(what, path string) {
		t.Helper()
		holders := holdersOfMount(r.disk.Mount)
		if len(holders) != 1 || holders[0].Path != path {
			t.Errorf("%s: found %v", what, holders)
		}
	}

	btrfstest.Run(t, "mount", "-t", "tmpfs", "tmpfs", below)
	mustFind("a mount", below)
	btrfstest.Unmount(t, below)

	open, err := os.Open(file)
	btrfstest.Check(t, err)
	mustFind("an open file", file)
	mapped, err := unix.Mmap(int(open.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	btrfstest.Check(t, err)
	open.Close()
	mustFind("a mapped file", file)
	btrfstest.Check(t, unix.Munmap(mapped))

	loop := btrfstest.Run(t, "losetup", "--find", "--show", file)
	mustFind("a loop device", file)
	btrfstest.Run(t, "losetup", "--detach", loop)
	r.eventually("the loop device is detached", func() bool { return len(holdersOfMount(r.disk.Mount)) == 0 })
	r.options.Patience = time.Hour
	r.close(opened)
}

func TestCloseWaitsForWhatEndsSoon(t *testing.T) {
	r := newRig(t)
	opened := r.open()
	holder := r.holder(r.disk.Mount)
	real, err := exec.LookPath("umount")
	btrfstest.Check(t, err)
	r.program("umount", "exec "+real+" \"$@\"")
	opened.options.Patience = time.Hour
	closed := make(chan error)
	go func() { closed <- opened.Close(t.Context()) }()
	r.eventually("umount is tried", func() bool { return len(r.called()) > 0 })
	end(holder)
	btrfstest.Check(t, <-closed)
	r.mustBeMounted(false)
	for _, call := range r.called() {
		if call != "umount "+r.disk.Mount {
			t.Errorf("called %s", call)
		}
	}
}

func TestDataThatDoesNotReachTheDiskIsToldAndTheDiskClosed(t *testing.T) {
	r := newRig(t)
	full := t.TempDir()
	btrfstest.Run(t, "mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", full)
	image := filepath.Join(full, "image")
	btrfstest.Check(t, os.WriteFile(image, nil, 0o600))
	btrfstest.Check(t, os.Truncate(image, 128<<20))
	btrfstest.Run(t, "mkfs.btrfs", "--quiet", image)
	device := btrfstest.Run(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() {
		btrfstest.Run(t, "losetup", "--detach", device)
		r.eventually("the image is unused", func() bool { return unix.Unmount(full, 0) == nil })
	})
	r.disk.UUID = btrfstest.Run(t, "blkid", "-p", "-s", "UUID", "-o", "value", device)
	opened := r.open()
	btrfstest.Check(t, os.WriteFile(filepath.Join(r.disk.Mount, "file"), bytes.Repeat([]byte("data"), 16<<18), 0o600))
	if err := opened.Close(t.Context()); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "syncing "+r.disk.Mount) {
		t.Error(err)
	}
	r.mustBeMounted(false)
	r.mustHaveNoNote()
}

func TestLastRunWithTheDiskClosesIt(t *testing.T) {
	r := newRig(t)
	first, second := r.open(), r.open()
	r.close(first)
	r.mustBeMounted(true)
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustBeMounted(true)
	r.close(second)
	r.mustBeMounted(false)
	r.mustHaveNoNote()
	if strings.Contains(r.said.String(), "killed") {
		t.Errorf("of runs side by side one was taken for killed:\n%s", r.said)
	}
}

func TestOpenThatIsStoppedLeavesNothingOpen(t *testing.T) {
	r := newRig(t)
	real, err := exec.LookPath("mount")
	btrfstest.Check(t, err)
	r.program("mount", real+" \"$@\"\necho mounted >>\"$DISK_TEST_PROGRAMS\"\nexec sleep 1000000")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by a signal")
	failed := make(chan error)
	go func() {
		_, err := r.disk.Open(ctx, r.options)
		failed <- err
	}()
	r.eventually("it is mounted", func() bool { return len(r.called()) == 2 })
	cancel(stop)
	if err := <-failed; !errors.Is(err, stop) {
		t.Error(err)
	}
	r.mustBeMounted(false)
	r.mustHaveNoNote()
}

func TestDiskThatAKilledRunLeftOpenIsClosedByTheNextOne(t *testing.T) {
	t.Run("that uses it", func(t *testing.T) {
		r := newRig(t)
		r.killed("none")
		r.mustBeMounted(true)
		opened := r.open()
		r.mustSay("left open by a run that was killed")
		r.close(opened)
		r.mustBeMounted(false)
		r.mustHaveNoNote()
	})
	t.Run("that does not use it", func(t *testing.T) {
		r := newRig(t)
		r.killed("none")
		btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
		r.mustSay("left open by a run that was killed")
		r.mustBeMounted(false)
		r.mustHaveNoNote()
	})
	t.Run("whose configuration has another directory", func(t *testing.T) {
		r := newRig(t)
		r.killed("none")
		before := r.disk.Mount
		r.disk.Mount = t.TempDir()
		r.close(r.open())
		r.mustBeMounted(false)
		r.disk.Mount = before
		r.mustBeMounted(false)
	})
}

func TestWhatTheUserMountedAfterAKilledRunStays(t *testing.T) {
	var st unix.Statx_t
	btrfstest.Check(t, unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MNT_ID_UNIQUE, &st))
	if st.Mask&unix.STATX_MNT_ID_UNIQUE == 0 {
		t.Log("this kernel, older than 6.8, gives the number of a mount to a later one")
		return
	}
	r := newRig(t)
	r.killed("none")
	btrfstest.Unmount(t, r.disk.Mount)
	btrfstest.Run(t, "mount", r.fs.Device, r.disk.Mount)
	r.close(r.open())
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustBeMounted(true)
	r.mustHaveNoNote()
	if strings.Contains(r.said.String(), "may be left") {
		t.Errorf("of what the run had opened for certain it was said:\n%s", r.said)
	}
}

func TestKilledRunBetweenMountAndNoteIsTold(t *testing.T) {
	r := newRig(t)
	r.killed("disk mounted")
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustSay(r.disk.Mount + " may be left from that")
	r.mustBeMounted(true)
	r.mustHaveNoNote()
}

func TestDamagedNoteIsToldAndReplaced(t *testing.T) {
	r := newRig(t)
	r.close(r.open())
	btrfstest.Check(t, os.WriteFile(r.options.place("usb").file(), []byte("{"), 0o600))
	r.close(r.open())
	r.mustSay("is unknown")
	r.mustBeMounted(false)
	r.mustHaveNoNote()
}
