package schedule

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

var disks = []Disk{{"usb", "7c1b3f2a-0000-4000-8000-000000000001", ""}, {"my-disk_2.b", "AB12-34CD", ""}}

// systems are the setups of systemd.
func systems(t testing.TB) map[string]Setup {
	return map[string]Setup{
		"system":         {Program: "/usr/bin/env"},
		"with disks":     {Program: "/usr/bin/env", Disks: disks},
		"another config": {Program: "/usr/bin/env", Config: "/etc/my-jobs_2.toml", Disks: disks},
		"user":           {Program: "/usr/bin/env", Dir: filepath.Join(t.TempDir(), "systemd/user"), Disks: disks},
	}
}

func TestSystemdTakesTheUnits(t *testing.T) {
	t.Parallel()
	for name, s := range systems(t) {
		root := t.TempDir()
		_, err := write(root, s.Units(), s.Paths())
		btrfstest.Check(t, err)
		argv := []string{"systemd-analyze", "verify", "--man=no"}
		if s.Dir != "" {
			argv = append(argv, "--user")
		}
		for _, f := range s.Units() {
			if strings.HasSuffix(f.Path, "@.service") {
				instance := strings.Replace(filepath.Base(f.Path), "@", "@my-disk_2.b", 1)
				link := filepath.Join(root, filepath.Dir(f.Path), instance)
				btrfstest.Check(t, os.Symlink(filepath.Base(f.Path), link))
				argv = append(argv, link)
			} else if !strings.HasSuffix(f.Path, ".rules") {
				argv = append(argv, filepath.Join(root, f.Path))
			}
		}
		verify := exec.Command(argv[0], argv[1:]...)
		verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		out, err := verify.CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// simulate has udev tell what it makes of a device, with these rules and in a /dev and /run that go with it.
const simulate = `set -e
mount -t tmpfs none /run
mkdir /run/dev
mount -t tmpfs none /run/dev
cp -a /dev/null "$1" /run/dev
mount --bind /run/dev /dev
mount -t tmpfs none /etc/udev/rules.d
cp "$2" /etc/udev/rules.d/
udevadm test --action=add "/sys/class/block/${1#/dev/}" 2>&1
`

func TestADiskThatIsPluggedInStartsItsService(t *testing.T) {
	t.Parallel()
	fs := btrfstest.New(t, 128<<20)
	uuid := strings.TrimSpace(btrfstest.Run(t, "blkid", "--probe", "--output", "value", "--match-tag", "UUID", fs.Device))
	s := Setup{Program: "/usr/bin/env", Disks: append(disks, Disk{"this", uuid, ""})}
	root := t.TempDir()
	_, err := write(root, s.Units(), s.Paths())
	btrfstest.Check(t, err)
	told := btrfstest.Run(t, "unshare", "--mount", "sh", "-c", simulate, "sh", fs.Device, filepath.Join(root, rules))
	for _, want := range []string{"\nSYSTEMD_WANTS=btrfs-backup-disk@this.service\n", "\nTAGS=:systemd:\n"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not in\n%s", want, told)
		}
	}
	if strings.Contains(told, "90-btrfs-backup.rules:2 RUN") || strings.Contains(told, "Invalid") {
		t.Errorf("the rules do more, or are wrong:\n%s", told)
	}
}

func fates(changes []Change) (text string) {
	for _, c := range changes {
		text += string(c.Fate) + " " + c.Path + "\n"
	}
	return text
}

func TestOnlyUnchangedFilesAreReplacedOrRemoved(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := Setup{Program: "/usr/bin/env", Disks: disks}
	install := func(want string, files []File) {
		t.Helper()
		changes, err := write(root, files, s.Paths())
		btrfstest.Check(t, err)
		if fates(changes) != want {
			t.Errorf("%s\nwant\n%s", fates(changes), want)
		}
	}
	const timer, service = "/etc/systemd/system/btrfs-backup.timer", "/etc/systemd/system/btrfs-backup.service"
	const diskService = "/etc/systemd/system/btrfs-backup-disk@.service"
	install("wrote "+timer+"\nwrote "+service+"\nwrote "+diskService+"\nwrote "+rules+"\n", s.Units())
	install("unchanged "+timer+"\nunchanged "+service+"\nunchanged "+diskService+"\nunchanged "+rules+"\n", s.Units())
	for _, f := range s.Units() {
		if info, err := os.Stat(filepath.Join(root, f.Path)); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", f.Path, info.Mode(), err)
		}
	}

	s.Program = "/bin/true" // what is ours is replaced, and what is not needed any more goes
	s.Disks = nil
	changed := filepath.Join(root, service)
	ours, err := os.ReadFile(changed)
	btrfstest.Check(t, err)
	theirs := strings.Replace(string(ours), "Nice=10", "Nice=19", 1)
	btrfstest.Check(t, os.WriteFile(changed, []byte(theirs), 0o600))
	btrfstest.Check(t, os.WriteFile(filepath.Join(root, diskService), []byte("[Unit]\n"), 0o600))
	install("unchanged "+timer+"\nleft "+service+"\nleft "+diskService+"\nremoved "+rules+"\n", s.Units())

	install("wrote "+crontab+"\nremoved "+timer+"\nleft "+service+"\nleft "+diskService+"\n", s.Cron())
	changes, err := remove(root, s.Paths())
	btrfstest.Check(t, err)
	if want := "left " + service + "\nleft " + diskService + "\nremoved " + crontab + "\n"; fates(changes) != want {
		t.Errorf("%s\nwant\n%s", fates(changes), want)
	}
	if text, err := os.ReadFile(changed); err != nil || string(text) != theirs {
		t.Errorf("a file that was changed holds %q: %v", text, err)
	}
}

func TestFilesAreReadableWhateverTheUmask(t *testing.T) {
	root := t.TempDir()
	defer syscall.Umask(syscall.Umask(0o077))
	s := Setup{Program: "/usr/bin/env"}
	_, err := write(root, s.Cron(), nil)
	btrfstest.Check(t, err)
	if info, err := os.Stat(filepath.Join(root, crontab)); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestCronRunsTheProgramQuietly(t *testing.T) {
	t.Parallel()
	text := Setup{Program: "/usr/local/sbin/btrfs-backup", Config: "/etc/jobs.toml"}.Cron()[0].Text()
	lines := strings.Split(text, "\n")
	if want := "*/15 * * * * root /usr/local/sbin/btrfs-backup run --quiet --config /etc/jobs.toml"; lines[len(lines)-2] != want || !strings.HasPrefix(text, "# ") {
		t.Errorf("%s\nwant\n%s", text, want)
	}
}

func TestAProgramThatOthersCanChangeIsNotRunByTheSystem(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	const nobody = 65534
	true_, err := filepath.EvalSymlinks("/usr/bin/true")
	btrfstest.Check(t, err)
	for _, user := range []int{0, nobody} {
		if err := (Setup{Program: true_}).Check(user); err != nil {
			t.Errorf("by user %d: %v", user, err)
		}
	}
	const dir = "/srv" // since places for temporary files are refused
	btrfstest.Run(t, "mount", "-t", "tmpfs", "none", dir)
	t.Cleanup(func() { btrfstest.Unmount(t, dir) })
	program := filepath.Join(dir, "btrfs-backup")
	btrfstest.Check(t, os.WriteFile(program, nil, 0o755))
	for _, test := range []struct {
		mode         os.FileMode // of the directory
		uid, gid     int
		system, user bool
	}{
		{0o755, 0, 0, true, true},
		{0o775, 0, 50, true, true},
		{0o775, 0, 1000, false, false},
		{0o775, nobody, nobody, false, true},
		{0o777, 0, 0, false, false},
		{0o1777, 0, 0, false, false},
		{0o755, nobody, nobody, false, true},
		{0o755, 1000, 1000, false, false},
	} {
		btrfstest.Check(t, os.Chown(dir, test.uid, test.gid))
		btrfstest.Run(t, "chmod", fmt.Sprintf("%o", test.mode), dir)
		if err := (Setup{Program: program}).Check(0); (err == nil) != test.system {
			t.Errorf("%+v: %v", test, err)
		}
		if err := (Setup{Program: program}).Check(nobody); (err == nil) != test.user {
			t.Errorf("%+v: by a user: %v", test, err)
		}
	}
	for _, place := range []string{"/root", "/home", "/tmp", "/run", "/var/tmp"} {
		if err := checkOwner(place, 0); err == nil {
			t.Errorf("a program in %s is run", place)
		}
	}
	for _, wrong := range []Setup{{Program: "/usr/bin/a b"}, {Program: "/usr/bin/100%"}, {Program: "/nowhere/x"}, {Program: "true"},
		{Program: true_, Config: "/etc/my jobs"}, {Program: true_, Disks: []Disk{{"a+b", disks[0].UUID, ""}}}} {
		if err := wrong.Check(0); err == nil || hint.Of(err) == "" {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	s := Setup{Program: true_, Disks: []Disk{{"a+b", "", "see"}}}
	if err := s.Check(0); err != nil || len(s.Units()) != 2 {
		t.Errorf("a disk that cannot be noticed: %v, %d units", err, len(s.Units()))
	}
}
