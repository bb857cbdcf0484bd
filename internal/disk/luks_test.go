package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Programs that stand in for those that make mappings, since not every kernel has a device mapper. They ask the real cryptsetup
// whether it takes the options and the key for a real LUKS device. The mapping is a link to a loop device.
const (
	standInSystemd = `
case $1 in
attach) "$DISK_TEST_CRYPTSETUP" open --test-passphrase --key-file "$4" "$3" && exec ln -s "$DISK_TEST_INSIDE" "$DISK_TEST_MAPPER/$2" ;;
detach) exec rm "$DISK_TEST_MAPPER/$2" ;;
esac`
	standInCryptsetup = `
for last; do :; done
case $1 in
open) test=--test-passphrase ;;
close) exec rm "$DISK_TEST_MAPPER/$last" ;;
esac
n=$# i=1
for word; do
	shift
	[ $i = $n ] || set -- "$@" "$word"
	i=$((i + 1))
done
"$DISK_TEST_CRYPTSETUP" "$@" $test && exec ln -s "$DISK_TEST_INSIDE" "$DISK_TEST_MAPPER/$last"`
	standInCryptdisks = `exec ln -s "$DISK_TEST_INSIDE" "$DISK_TEST_MAPPER/$1"`
	standInStop       = `exec rm "$DISK_TEST_MAPPER/$1"`
)

// newEncrypted gives a machine with an encrypted disk that is locked, and its device.
func newEncrypted(t *testing.T) (r *rig, device, key string) {
	t.Helper()
	r = newRig(t)
	cryptsetup, err := exec.LookPath("cryptsetup")
	btrfstest.Check(t, err)
	device, key = newLUKS(r)
	t.Setenv("DISK_TEST_CRYPTSETUP", cryptsetup)
	t.Setenv("DISK_TEST_INSIDE", r.fs.Device)
	t.Setenv("DISK_TEST_MAPPER", filepath.Join(r.root, "dev/mapper"))
	r.disk.LUKS = "usb_crypt"
	r.write("etc/crypttab", "usb_crypt UUID=%s %s luks,noauto,discard\n", btrfstest.Run(t, cryptsetup, "luksUUID", device), key)
	r.onlyPrograms("mount", "umount", "findfs", "blkid", "sh", "ln", "rm", "losetup")
	return r, device, key
}

// newLUKS gives a LUKS device, and a file with the passphrase, "secret".
func newLUKS(r *rig) (device, key string) {
	r.Helper()
	image := filepath.Join(r.TempDir(), "image")
	btrfstest.Check(r, os.WriteFile(image, nil, 0o600))
	btrfstest.Check(r, os.Truncate(image, 32<<20))
	key = filepath.Join(r.root, "key")
	btrfstest.Check(r, os.WriteFile(key, []byte("secret"), 0o600))
	btrfstest.Run(r, "cryptsetup", "luksFormat", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", key, image)
	device = btrfstest.Run(r, "losetup", "--find", "--show", image)
	r.Cleanup(func() { btrfstest.Run(r, "losetup", "--detach", device) })
	return device, key
}

// What the stand-ins show, with the real programs and a real mapping.
func TestRealMappingIsMadeAndRemovedWhereTheKernelHasADeviceMapper(t *testing.T) {
	btrfstest.RequireRoot(t)
	if !exists("/sys/class/misc/device-mapper") {
		t.Log("this kernel has no device mapper: programs stand in for it in the other tests")
		return
	}
	for _, program := range []string{"cryptsetup", "systemd-cryptsetup"} {
		for _, withKey := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, key file: %v", program, withKey), func(t *testing.T) {
				r := newMachine(t)
				path, isThere := Options{}.program(program, "usr/lib/systemd", "lib/systemd")
				if !isThere {
					t.Logf("there is no %s here", program)
					return
				}
				if program != "cryptsetup" {
					btrfstest.Check(t, os.Symlink(path, filepath.Join(r.bin, program)))
				}
				device, key := newLUKS(r)
				r.disk.LUKS = fmt.Sprintf("btrfs_backup_test_%d", os.Getpid())
				btrfstest.Check(t, os.Remove(filepath.Join(r.root, "dev/mapper")))
				btrfstest.Check(t, os.Symlink("/dev/mapper", filepath.Join(r.root, "dev/mapper")))
				mapping := r.options.mapping(r.disk)
				btrfstest.Run(t, "cryptsetup", "open", "--key-file", key, device, r.disk.LUKS)
				btrfstest.Run(t, "mkfs.ext4", "-q", mapping)
				r.disk.UUID = btrfstest.Run(t, "blkid", "-p", "-s", "UUID", "-o", "value", mapping)
				btrfstest.Run(t, "cryptsetup", "close", r.disk.LUKS)

				if !withKey {
					key = "none"
					answers := []string{"wrong", "secret"}
					r.options.Ask = func(context.Context, string, bool) (answer string, err error) {
						answer, answers = answers[0], answers[1:]
						return answer, nil
					}
				}
				r.write("etc/crypttab", "%s UUID=%s %s luks,discard,noauto\n", r.disk.LUKS, btrfstest.Run(t, "cryptsetup", "luksUUID", device), key)
				r.onlyPrograms("mount", "umount", "findfs", "blkid", "losetup", "cryptsetup")
				opened := r.open()
				m, err := mountedAt(r.disk.Mount)
				btrfstest.Check(t, err)
				if realPath(m.Source) != realPath(mapping) {
					t.Errorf("%s is mounted, not %s", m.Source, mapping)
				}
				r.close(opened)
				r.mustBeUnlocked(false)
				r.mustHaveNoNote()
			})
		}
	}
}

func (r *rig) mustBeUnlocked(want bool) {
	r.Helper()
	if got := exists(r.options.mapping(r.disk)); got != want {
		r.Errorf("unlocked: %v, want %v", got, want)
	}
}

func TestEncryptedDiskIsUnlockedByTheFirstProgramThatIsThere(t *testing.T) {
	r, device, key := newEncrypted(t)
	for _, c := range []struct{ name, program, want string }{
		{"cryptsetup", standInCryptsetup, "cryptsetup open --key-file " + key + " --allow-discards " + device + " usb_crypt"},
		{"cryptdisks_start", standInCryptdisks, "cryptdisks_start usb_crypt"},
		{"systemd-cryptsetup", standInSystemd, "systemd-cryptsetup attach usb_crypt " + device + " " + key + " luks,noauto,discard,tries=1,headless=true"},
	} {
		r.program(c.name, c.program)
		opened := r.open()
		r.mustBeUnlocked(true)
		r.mustBeMounted(true)
		r.close(opened)
		r.mustBeUnlocked(false)
		r.mustBeMounted(false)
		r.mustHaveNoNote()
		r.mustHaveCalled(c.want, "cryptsetup close usb_crypt")
		btrfstest.Check(t, os.Remove(os.Getenv("DISK_TEST_PROGRAMS")))
	}
}

func TestProgramOfSystemdIsFoundWhereDistributionsKeepIt(t *testing.T) {
	r, _, _ := newEncrypted(t)
	r.write("usr/lib/systemd/systemd-cryptsetup", "#!/bin/sh\necho \"${0##*/} $1 $2\" >>\"$DISK_TEST_PROGRAMS\"\n%s", standInSystemd)
	btrfstest.Check(t, os.Chmod(filepath.Join(r.root, "usr/lib/systemd/systemd-cryptsetup"), 0o700))
	r.close(r.open())
	r.mustBeUnlocked(false)
	r.mustHaveCalled("systemd-cryptsetup attach usb_crypt", "systemd-cryptsetup detach usb_crypt")
}

func TestDiskIsLockedWithoutCryptsetup(t *testing.T) {
	r, _, _ := newEncrypted(t)
	r.program("cryptdisks_start", standInCryptdisks)
	r.program("cryptdisks_stop", standInStop)
	r.close(r.open())
	r.mustBeUnlocked(false)
	r.mustHaveCalled("cryptdisks_start usb_crypt", "cryptdisks_stop usb_crypt")
}

func TestKeyscriptIsLeftToTheOneProgramThatRunsIt(t *testing.T) {
	r, device, _ := newEncrypted(t)
	r.write("etc/crypttab", "usb_crypt %s argument luks,keyscript=/bin/key\n", device)
	r.program("systemd-cryptsetup", standInSystemd)
	r.program("cryptdisks_start", standInCryptdisks)
	r.program("cryptsetup", standInCryptsetup)
	r.close(r.open())
	r.mustHaveCalled("cryptdisks_start usb_crypt", "cryptsetup close usb_crypt")
}

func TestStepsAreInOrderAndUndoneInReverse(t *testing.T) {
	r, device, _ := newEncrypted(t)
	r.disk.Eject = true
	r.write("etc/fstab", "/dev/mapper/usb_crypt %s btrfs noauto 0 0\n", r.disk.Mount)
	for _, name := range []string{"mount", "umount"} {
		path, err := exec.LookPath(name)
		btrfstest.Check(t, err)
		real, err := filepath.EvalSymlinks(path)
		btrfstest.Check(t, err)
		btrfstest.Check(t, os.Remove(path))
		r.program(name, fmt.Sprintf("[ %s = umount ] && exec %[2]s \"$@\"\nexec %[2]s $DISK_TEST_MAPPER/usb_crypt %[3]s", name, real, r.disk.Mount))
	}
	r.program("systemd-cryptsetup", standInSystemd)
	r.program("cryptsetup", standInCryptsetup)
	r.program("udisksctl", "")
	opened := r.open()
	r.close(opened)
	var steps []string
	for _, call := range r.called() {
		words := strings.Fields(call)
		steps = append(steps, words[0]+" "+words[1])
	}
	want := []string{"systemd-cryptsetup attach", "mount --fstab", "umount " + r.disk.Mount, "cryptsetup close", "udisksctl power-off"}
	if !slices.Equal(steps, want) {
		t.Errorf("%s\nwant %s (device %s)", strings.Join(steps, "\n"), strings.Join(want, "\n"), device)
	}
}

func TestMissingKeyFileIsAnErrorWithAHint(t *testing.T) {
	r, _, key := newEncrypted(t)
	r.program("systemd-cryptsetup", standInSystemd)
	btrfstest.Check(t, os.Remove(key))
	err := r.fails()
	if !strings.Contains(err.Error(), key) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(hint.Of(err), "/etc/crypttab") {
		t.Errorf("%v; %s", err, hint.Of(err))
	}
	r.mustHaveCalled()
}

func TestKeyFileIsFoundWhereSystemdLooksForIt(t *testing.T) {
	r, device, key := newEncrypted(t)
	r.write("etc/crypttab", "usb_crypt %s none\n", device)
	r.write("etc/cryptsetup-keys.d/usb_crypt.key", "secret")
	r.program("cryptsetup", standInCryptsetup)
	r.program("cryptdisks_start", standInCryptdisks) // looks only where crypttab says
	r.close(r.open())
	key = filepath.Join(r.root, "etc/cryptsetup-keys.d/usb_crypt.key")
	r.mustHaveCalled("cryptsetup open --key-file "+key+" "+device+" usb_crypt", "cryptsetup close usb_crypt")
}

func TestDiskThatTheUserUnlockedStaysSo(t *testing.T) {
	r, _, _ := newEncrypted(t)
	r.disk.Eject = true
	r.program("cryptsetup", standInCryptsetup)
	r.program("udisksctl", "")
	btrfstest.Check(t, os.Symlink(r.fs.Device, r.options.mapping(r.disk)))
	opened := r.open()
	r.mustBeMounted(true)
	r.close(opened)
	r.mustBeMounted(false)
	r.mustBeUnlocked(true)
	r.mustHaveCalled()
}

func TestPassphraseIsAskedForOnATerminalOnly(t *testing.T) {
	for name, program := range map[string]string{"systemd-cryptsetup": standInSystemd, "cryptsetup": standInCryptsetup} {
		t.Run(name, func(t *testing.T) {
			r, device, _ := newEncrypted(t)
			r.write("etc/crypttab", "usb_crypt %s none luks,keyfile-offset=3,tries=2\n", device)
			r.program("cryptsetup", standInCryptsetup)
			r.program(name, program)
			r.program("cryptdisks_start", standInCryptdisks) // would ask by itself

			if err := r.fails(); !strings.Contains(err.Error(), "no terminal") || !strings.Contains(hint.Of(err), "key file") {
				t.Errorf("%v; %s", err, hint.Of(err))
			}
			var asked []string
			answers := func(passphrases ...string) {
				asked = nil
				r.options.Ask = func(_ context.Context, question string, secret bool) (string, error) {
					if !secret {
						t.Error("the passphrase would be shown")
					}
					asked = append(asked, question)
					return passphrases[len(asked)-1], nil
				}
			}
			answers("wrong", "wrong", "secret")
			if err := r.fails(); !strings.Contains(err.Error(), "none of 2 passphrases") || len(asked) != 2 {
				t.Errorf("%v after %q", err, asked)
			}
			r.program(name, "echo the device is broken >&2\nexit 1")
			answers("secret")
			if err := r.fails(); !strings.Contains(err.Error(), "broken") || len(asked) != 1 {
				t.Errorf("%v after %q", err, asked)
			}
			r.program(name, program)
			answers("wrong", "secret")
			r.close(r.open())
			if len(asked) != 2 || !strings.Contains(asked[0], "disk usb") {
				t.Errorf("asked %q", asked)
			}
			r.mustBeUnlocked(false)
			for _, call := range r.called() {
				if strings.Contains(call, "secret") || strings.Contains(call, "keyfile-offset") || strings.HasPrefix(call, "cryptdisks") {
					t.Errorf("called %s", call)
				}
			}
		})
	}
}

func TestEntriesThatNoProgramCanServeAreRefused(t *testing.T) {
	r, device, key := newEncrypted(t)
	r.program("cryptsetup", standInCryptsetup)
	r.write("wrong", "wrong")
	for line, want := range map[string]string{
		"other " + device + " " + key:                                  "not in /etc/crypttab",
		"usb_crypt " + device + " " + key + " plain,cipher=aes":        "no option for plain",
		"usb_crypt " + device + " " + key + " plain,swap":              "makes a new filesystem each time",
		"usb_crypt " + device + " none luks,keyscript=/bin/key":        "no program is there for the key",
		"usb_crypt " + device + " - luks,tpm2-device=auto":             "no program is there for the key",
		"usb_crypt /dev/nothing " + key:                                "absent",
		"usb_crypt " + device + " " + r.root + "/wrong luks":           "No key available",
		"usb_crypt UUID=01234567-89ab-cdef-0123-456789abcdef " + key:   "absent",
		"usb_crypt " + device + " " + key + " luks,keyfile-offset=999": "Cannot seek to requested keyfile offset",
	} {
		r.write("etc/crypttab", "%s\n", line)
		if err := r.fails(); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
		r.mustBeUnlocked(false)
	}
}

func TestWrongFilesystemInTheMappingIsLockedAgain(t *testing.T) {
	r, _, _ := newEncrypted(t)
	r.program("cryptsetup", standInCryptsetup)
	r.disk.UUID = "01234567-89ab-cdef-0123-456789abcdef"
	r.disk.Eject = true
	r.program("udisksctl", "")
	if err := r.fails(); !strings.Contains(err.Error(), r.fs.uuid) {
		t.Error(err)
	}
	r.mustBeUnlocked(false)
	if called := r.called(); called[len(called)-1] != "cryptsetup close usb_crypt" {
		t.Errorf("called %q", called)
	}
}

func TestMappingInUseStaysAndWhereItIsMountedIsTold(t *testing.T) {
	r, _, _ := newEncrypted(t)
	r.program("cryptsetup", standInCryptsetup)
	opened := r.open()
	elsewhere := t.TempDir()
	btrfstest.Run(t, "mount", r.options.mapping(r.disk), elsewhere)
	err := opened.Close(t.Context())
	btrfstest.Unmount(t, elsewhere)
	var busy *BusyError
	if !errors.As(err, &busy) || len(busy.Holders) != 1 || busy.Holders[0].Path != elsewhere {
		t.Errorf("%v", err)
	}
	r.mustBeUnlocked(true)
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustBeUnlocked(false)
	r.mustHaveNoNote()
}

func TestDiskIsClosedAfterAKillAtEachStep(t *testing.T) {
	r, _, _ := newEncrypted(t)
	r.program("cryptsetup", standInCryptsetup)

	r.killed("none")
	r.mustBeMounted(true)
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustBeMounted(false)
	r.mustBeUnlocked(false)

	// The step is done, and not noted yet: it may be somebody else's.
	r.killed("disk unlocked")
	r.mustBeUnlocked(true)
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustSay(r.options.mapping(r.disk) + " may be left from that")
	r.mustBeUnlocked(true)
	r.mustHaveNoNote()
	btrfstest.Check(t, os.Remove(r.options.mapping(r.disk)))

	r.killed("disk mounted")
	r.mustBeMounted(true)
	r.close(r.open())
	r.mustBeMounted(false)
	r.mustBeUnlocked(false)

	// The user unlocked it anew after that.
	r.killed("none")
	btrfstest.Unmount(t, r.disk.Mount)
	btrfstest.Check(t, os.Symlink(r.fs.Device, filepath.Join(r.root, "anew"))) // another inode on any filesystem
	btrfstest.Check(t, os.Rename(filepath.Join(r.root, "anew"), r.options.mapping(r.disk)))
	btrfstest.Check(t, CloseAbandoned(t.Context(), r.options))
	r.mustBeUnlocked(true)
	r.mustHaveNoNote()
}
