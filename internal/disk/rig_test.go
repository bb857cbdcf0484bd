package disk

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be a run that opens a disk and is killed at a step.
func TestMain(m *testing.M) {
	if step := os.Getenv("DISK_TEST_STEP"); step != "" {
		failpoint.OnReach(func(reached string) {
			if reached == step {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			}
		})
		d := Disk{Name: "usb", Mount: os.Getenv("DISK_TEST_MOUNT"), UUID: os.Getenv("DISK_TEST_UUID"), LUKS: os.Getenv("DISK_TEST_LUKS")}
		o := Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), State: os.Getenv("DISK_TEST_STATE"), root: os.Getenv("DISK_TEST_ROOT")}
		if _, err := d.Open(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	os.Exit(m.Run())
}

// rig is a machine with a disk that is plugged in and not mounted.
type rig struct {
	*testing.T
	fs      *device
	disk    Disk
	options Options
	root    string // of the system's files
	bin     string // programs that are found first
	said    *lines
}

func newRig(t *testing.T) *rig {
	t.Helper()
	fs := unplugged(t)
	r := newMachine(t)
	r.fs, r.disk.UUID = fs, fs.uuid
	return r
}

// newMachine gives one without the disk.
func newMachine(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, root: t.TempDir(), bin: t.TempDir(), said: &lines{}}
	r.disk = Disk{Name: "usb", Mount: filepath.Join(t.TempDir(), "mnt")}
	btrfstest.Check(t, os.Mkdir(r.disk.Mount, 0o755))
	t.Cleanup(func() {
		for unix.Unmount(r.disk.Mount, 0) == nil {
		}
	})
	for _, dir := range []string{"etc", "dev/mapper"} {
		btrfstest.Check(t, os.MkdirAll(filepath.Join(r.root, dir), 0o755))
	}
	r.options = Options{Log: slog.New(slog.NewTextHandler(r.said, &slog.HandlerOptions{Level: slog.LevelDebug})), State: t.TempDir(),
		Patience: time.Millisecond, root: r.root}
	t.Setenv("PATH", r.bin+":"+os.Getenv("PATH"))
	t.Setenv("DISK_TEST_PROGRAMS", filepath.Join(r.root, "programs"))
	return r
}

// unplugged gives a filesystem that is mounted nowhere.
func unplugged(t *testing.T) *device {
	t.Helper()
	fs := btrfstest.New(t, 128<<20)
	dir := btrfstest.Open(t, fs.Dir)
	id, err := btrfs.FilesystemID(dir)
	btrfstest.Check(t, err)
	dir.Close()
	held, err := os.Open(fs.Device) // else it is detached
	btrfstest.Check(t, err)
	t.Cleanup(func() { held.Close() })
	btrfstest.Unmount(t, fs.Dir)
	return &device{fs, id.String()}
}

type device struct {
	*btrfstest.FS
	uuid string
}

// lines are what was logged.
type lines struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.Buffer.String()
}

func (r *rig) mustSay(words string) {
	r.Helper()
	if !strings.Contains(r.said.String(), words) {
		r.Errorf("nothing was said of %q:\n%s", words, r.said)
	}
}

func (r *rig) open() *Opened {
	r.Helper()
	opened, err := r.disk.Open(r.Context(), r.options)
	btrfstest.Check(r, err)
	return opened
}

// fails opens the disk and gives the error, after which nothing is mounted or on record.
func (r *rig) fails() error {
	r.Helper()
	opened, err := r.disk.Open(r.Context(), r.options)
	if err == nil {
		btrfstest.Check(r, opened.Close(r.Context()))
		r.Fatal("the disk was opened")
	}
	r.mustBeMounted(false)
	r.mustHaveNoNote()
	return err
}

func (r *rig) close(opened *Opened) {
	r.Helper()
	btrfstest.Check(r, opened.Close(r.Context()))
}

func (r *rig) mustBeMounted(want bool) {
	r.Helper()
	m, err := mountedAt(r.disk.Mount)
	btrfstest.Check(r, err)
	if (m != nil) != want {
		r.Fatalf("mounted: %v, want %v\n%s", m != nil, want, r.said)
	}
}

func (r *rig) mustHaveNoNote() {
	r.Helper()
	if file := r.options.place(r.disk.Name).file(); exists(file) {
		content, _ := os.ReadFile(file)
		r.Errorf("there still is a note: %s", content)
	}
}

func (r *rig) write(path, format string, args ...any) {
	r.Helper()
	path = filepath.Join(r.root, path)
	btrfstest.Check(r, os.MkdirAll(filepath.Dir(path), 0o755))
	btrfstest.Check(r, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600))
}

// program makes a program that is found in place of others of its name, and records how it is called.
func (r *rig) program(name, script string) {
	r.Helper()
	btrfstest.WriteProgram(r, filepath.Join(r.bin, name), "#!/bin/sh\necho \"${0##*/} $*\" >>\"$DISK_TEST_PROGRAMS\"\n"+script)
}

// onlyPrograms lets no others be found than those of the rig, and these.
func (r *rig) onlyPrograms(names ...string) {
	r.Helper()
	for _, name := range names {
		path, err := exec.LookPath(name)
		btrfstest.Check(r, err)
		btrfstest.Check(r, os.Symlink(path, filepath.Join(r.bin, name)))
	}
	r.Setenv("PATH", r.bin)
}

// called gives the calls of the rig's programs.
func (r *rig) called() []string {
	r.Helper()
	content, err := os.ReadFile(os.Getenv("DISK_TEST_PROGRAMS"))
	if os.IsNotExist(err) {
		return nil
	}
	btrfstest.Check(r, err)
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

func (r *rig) mustHaveCalled(want ...string) {
	r.Helper()
	if called := r.called(); !slices.Equal(called, want) {
		r.Errorf("called:\n%s\nwant:\n%s", strings.Join(called, "\n"), strings.Join(want, "\n"))
	}
}

// killed opens the disk in a process that is killed at a step, or when it is open.
func (r *rig) killed(step string) {
	r.Helper()
	self, err := os.Executable()
	btrfstest.Check(r, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "DISK_TEST_STEP="+step, "DISK_TEST_MOUNT="+r.disk.Mount, "DISK_TEST_UUID="+r.disk.UUID,
		"DISK_TEST_LUKS="+r.disk.LUKS, "DISK_TEST_STATE="+r.options.State, "DISK_TEST_ROOT="+r.root)
	said, _ := cmd.CombinedOutput()
	if status, _ := cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }); status == nil || status.Signal() != unix.SIGKILL {
		r.Fatalf("that run was not killed: %v\n%s", cmd.ProcessState, said)
	}
}

// eventually waits for what another process does.
func (r *rig) eventually(what string, is func() bool) {
	r.Helper()
	for end := time.Now().Add(5 * time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("%s: not in five minutes\n%s", what, r.said)
		}
	}
}
