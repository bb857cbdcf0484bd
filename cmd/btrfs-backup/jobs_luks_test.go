package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// Programs that stand in for those that make mappings, since not every kernel has a device mapper: internal/disk has the test with a
// real one. The mapping is a link to a loop device.
const (
	standInUnlock = "#!/bin/sh\necho $1 $2 >>%[1]s/diary\n[ \"$(cat \"$4\")\" = secret ] || exit 1\nexec ln -s %[2]s /dev/mapper/$2\n"
	standInLock   = "#!/bin/sh\necho $1 $2 >>%[1]s/diary\nexec rm /dev/mapper/$2\n"
	standInMount  = "#!/bin/sh\necho ${0##*/} >>%[1]s/diary\nexec %[2]s \"$@\"\n"
)

// luks is a machine with an encrypted disk, in a world of its own: /etc and /dev/mapper are directories of the test.
type luks struct {
	*machine
	*usb
	bin string
}

func newLUKS(t testing.TB) *luks {
	t.Helper()
	l := &luks{machine: newMachine(t), usb: newUSB(t), bin: t.TempDir()}
	for name, script := range map[string]string{
		"systemd-cryptsetup": fmt.Sprintf(standInUnlock, l.dir, l.device),
		"cryptsetup":         fmt.Sprintf(standInLock, l.dir),
	} {
		btrfstest.WriteProgram(t, filepath.Join(l.bin, name), script)
	}
	for _, name := range []string{"mount", "umount"} {
		real, err := exec.LookPath(name)
		btrfstest.Check(t, err)
		btrfstest.WriteProgram(t, filepath.Join(l.bin, name), fmt.Sprintf(standInMount, l.dir, real))
	}
	for _, dir := range []string{"etc", "mapper"} {
		btrfstest.Check(t, os.Mkdir(filepath.Join(l.dir, dir), 0o755))
	}
	write(t, filepath.Join(l.dir, "etc", "crypttab"), fmt.Sprintf("usb_crypt %s %s/key luks,noauto\n", l.device, l.dir))
	l.configure(`[disk.usb]
mount = %q
uuid = %q
luks = "usb_crypt"
[job.home]
source = "SOURCE"
destination = "%[1]s/home"
[[job.home.hook]]
before = ["sh", "-c", "echo before >>DIR/diary"]
after = ["sh", "-c", "echo after $BTRFS_BACKUP_STATUS >>DIR/diary"]
around = "transfer"
`, l.mount, l.uuid)
	return l
}

// world runs the program, and tells which mounts and mappings are left.
const world = `mount --make-rprivate / && mkdir -p /dev/mapper && mount --bind %[1]s/mapper /dev/mapper && mount --bind %[1]s/etc /etc || exit 99
PATH=%[2]s:$PATH "$@"
status=$?
ls /dev/mapper
findmnt --noheadings --output TARGET %[3]s
exit $status`

func (l *luks) inside() result {
	l.machine.Helper()
	cmd := l.command()
	script := fmt.Sprintf(world, l.dir, l.bin, l.mount)
	cmd.Args = append([]string{"unshare", "--mount", "sh", "-c", script, "sh"}, cmd.Args...)
	cmd.Path, _ = exec.LookPath("unshare")
	return invokeCmd(l.machine, cmd)
}

func TestAnEncryptedDiskIsUnlockedMountedUnmountedAndLocked(t *testing.T) {
	t.Parallel()
	l := newLUKS(t)
	write(t, filepath.Join(l.dir, "key"), "secret")
	r := expect(t, exitDone, l.inside())
	want(t, "left open", strings.Fields(r.stdout))
	want(t, "done", []string{l.wrote()}, "attach usb_crypt, mount, before, after ok, umount, close usb_crypt")
	want(t, "backups", l.look("home"), l.snapshots()...)
}

func TestAnEncryptedDiskWithoutItsKeyIsLeftLockedAndTold(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(l *luks)
		told  []string
		done  string
	}{
		"missing": {func(*luks) {}, []string{"key file of usb_crypt: stat ", "/key: no such file or directory", "hint: put the key file there, or correct the line of usb_crypt in /etc/crypttab"}, ""},
		"wrong":   {func(l *luks) { write(l.machine, filepath.Join(l.dir, "key"), "wrong") }, []string{"unlocking usb_crypt: ", "exit status 1"}, "attach usb_crypt"},
		"no line": {func(l *luks) { btrfstest.Check(l.machine, os.Remove(filepath.Join(l.dir, "etc", "crypttab"))) },
			[]string{"usb_crypt is not in /etc/crypttab", "hint: add a line: usb_crypt UUID="}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLUKS(t)
			test.spoil(l)
			r := expect(t, exitPartly, l.inside(), append(test.told, "error: "+l.mount+"/home: disk usb: ")...)
			want(t, "left open", strings.Fields(r.stdout))
			want(t, "done", []string{l.wrote()}, test.done)
			if left, err := os.ReadDir(l.mount); err != nil || len(left) > 0 {
				t.Errorf("written where the disk is not: %v, %v", left, err)
			}
			write(t, filepath.Join(l.dir, "key"), "secret")
			write(t, filepath.Join(l.dir, "etc", "crypttab"), fmt.Sprintf("usb_crypt %s %s/key luks,noauto\n", l.device, l.dir))
			l.now = l.now.Add(time.Hour)
			taken := l.snapshots() // the one that was not sent
			expect(t, exitDone, l.inside())
			if len(taken) != 1 {
				t.Errorf("snapshots: %q", taken)
			}
			want(t, "backups", l.look("home"), l.snapshots()...)
		})
	}
}

func TestASignalLocksAnEncryptedDisk(t *testing.T) {
	t.Parallel()
	l := newLUKS(t)
	write(t, filepath.Join(l.dir, "key"), "secret")
	text, err := os.ReadFile(l.file())
	btrfstest.Check(t, err)
	text = []byte(strings.Replace(string(text), "echo before", "kill -TERM $PPID; exec sleep 1000; echo before", 1))
	btrfstest.Check(t, os.WriteFile(l.file(), text, 0o600))
	r := expect(t, 128+int(syscall.SIGTERM), l.inside())
	want(t, "left open", strings.Fields(r.stdout))
	want(t, "done", []string{l.wrote()}, "attach usb_crypt, mount, after failed, umount, close usb_crypt")
}
