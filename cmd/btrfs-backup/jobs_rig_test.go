package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"

	"golang.org/x/sys/unix"
)

// machine has a source, a configuration, and a clock of its own.
type machine struct {
	testing.TB
	dir    string // of the configuration, and of what the machine remembers
	source string
	now    time.Time
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	return &machine{TB: t, dir: t.TempDir(), source: newSource(t, smallFS(t).Dir, "home"), now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
}

// configure writes the configuration. In it, SOURCE and DIR are those of the machine.
func (m *machine) configure(format string, args ...any) {
	m.Helper()
	text := strings.NewReplacer("SOURCE", m.source, "DIR", m.dir).Replace(fmt.Sprintf(format, args...))
	btrfstest.Check(m, os.WriteFile(m.file(), []byte(text), 0o600))
}

func (m *machine) file() string { return filepath.Join(m.dir, "config.toml") }

func (m *machine) days(n int) { m.now = m.now.AddDate(0, 0, n) }

func (m *machine) environ() []string {
	return []string{"TZ=UTC", testOnlyNow + "=" + m.now.Format(time.RFC3339), testOnlyRun + "=" + filepath.Join(m.dir, "run"),
		"XDG_STATE_HOME=" + m.state()}
}

func (m *machine) state() string { return filepath.Join(m.dir, "state") }

// run does what is due. Each run is a minute later than the one before, and has something new to save.
func (m *machine) run(args ...string) result {
	m.Helper()
	return invokeCmd(m, m.command(args...))
}

func (m *machine) command(args ...string) *exec.Cmd {
	m.Helper()
	m.now = m.now.Add(time.Minute)
	write(m, filepath.Join(m.source, "file"), m.now.String())
	cmd := exec.Command("btrfs-backup", append([]string{"run", "--config", m.file()}, args...)...)
	cmd.Env = append(os.Environ(), m.environ()...)
	return cmd
}

// snapshots gives their names without those of links.
func (m *machine) snapshots() []string { return m.dated(filepath.Join(m.source, "snapshot")) }

// dated gives the names of the snapshots or backups in a folder, which may be missing.
func (m *machine) dated(folder string) (dated []string) {
	m.Helper()
	all, err := filepath.Glob(filepath.Join(folder, "2*"))
	btrfstest.Check(m, err)
	for _, path := range all {
		dated = append(dated, filepath.Base(path))
	}
	return dated
}

// wrote gives what hooks and programs wrote into the diary, and begins a new one.
func (m *machine) wrote() string {
	m.Helper()
	diary := filepath.Join(m.dir, "diary")
	content, err := os.ReadFile(diary)
	if os.IsNotExist(err) {
		return ""
	}
	btrfstest.Check(m, err)
	btrfstest.Check(m, os.Remove(diary))
	return strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", ", ")
}

// ran is what `run --json` tells of the jobs.
type ran struct {
	Jobs []struct {
		Job, Skipped string
		Result       *struct{ Destinations []engine.DestinationReport }
	}
}

func (m *machine) ran(r result) (told ran) {
	m.Helper()
	if err := json.Unmarshal([]byte(r.stdout), &told); err != nil {
		m.Fatalf("the report cannot be read: %v\n%s%s", err, r.stdout, r.stderr)
	}
	return told
}

// transfers gives those of the first job to a destination, each as NAME or NAME<PARENT.
func (r ran) transfers(destination string) (all []string) {
	if len(r.Jobs) == 0 || r.Jobs[0].Result == nil {
		return nil
	}
	for _, d := range r.Jobs[0].Result.Destinations {
		for _, t := range d.Transfers {
			if d.Destination == destination {
				all = append(all, strings.TrimSuffix(t.Snapshot+"<"+t.Parent, "<"))
			}
		}
	}
	return all
}

// usb is a disk that can be plugged in. It is not mounted.
type usb struct {
	testing.TB
	uuid, device, mount string
	image               string
}

func newUSB(t testing.TB) *usb {
	t.Helper()
	fs := smallFS(t)
	dir := btrfstest.Open(t, fs.Dir)
	id, err := btrfs.FilesystemID(dir)
	btrfstest.Check(t, err)
	btrfstest.Check(t, dir.Close())
	btrfstest.Unmount(t, fs.Dir)
	u := &usb{TB: t, uuid: id.String(), image: fs.Image, mount: filepath.Join(t.TempDir(), "usb")}
	btrfstest.Check(t, os.Mkdir(u.mount, 0o755))
	t.Cleanup(func() {
		for unix.Unmount(u.mount, 0) == nil {
		}
		u.unplug()
	})
	u.plug()
	return u
}

func (u *usb) plug() {
	u.Helper()
	u.device = btrfstest.Run(u, "losetup", "--find", "--show", u.image)
}

func (u *usb) unplug() {
	u.Helper()
	if u.device != "" {
		btrfstest.Run(u, "losetup", "--detach", u.device)
		u.device = ""
		for end := time.Now().Add(5 * time.Minute); btrfstest.Run(u, "losetup", "--associated", u.image) != ""; { // while something looks at it
			if time.Now().After(end) {
				u.Fatal("the loop device of the disk does not go away")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// is fails the test unless the disk is mounted, or is not.
func (u *usb) is(mounted bool) {
	u.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	btrfstest.Check(u, err)
	if strings.Contains(string(table), " "+u.mount+" ") != mounted {
		u.Errorf("mounted: %v, want %v", !mounted, mounted)
	}
}

// look gives the names in a folder of the disk.
func (u *usb) look(folder string) (dated []string) {
	u.Helper()
	u.is(false)
	btrfstest.Run(u, "mount", u.device, u.mount)
	defer btrfstest.Unmount(u, u.mount)
	all, err := filepath.Glob(filepath.Join(u.mount, folder, "2*"))
	btrfstest.Check(u, err)
	for _, path := range all {
		dated = append(dated, filepath.Base(path))
	}
	return dated
}
