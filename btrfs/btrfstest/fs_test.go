package btrfstest

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testSize = 256 << 20

func TestNewLeavesNothingBehind(t *testing.T) {
	RequireRoot(t)
	elsewhere := filepath.Join(t.TempDir(), "second mount")
	var fs *FS
	t.Run("test", func(t *testing.T) {
		fs = New(t, testSize, "compress=zstd")
		fs.Mount(t, elsewhere, "ro")
		if n := traces(t, fs); n != 3 {
			t.Errorf("found %d traces of two mounts and a loop device", n)
		}
	})
	waitForNoTrace(t, fs)
	if _, err := os.Stat(filepath.Dir(fs.Image)); !os.IsNotExist(err) {
		t.Errorf("the directory of the image is left: %v", err)
	}
}

func TestNewInParallel(t *testing.T) {
	RequireRoot(t)
	for range 16 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			fs := New(t, testSize)
			Run(t, "btrfs", "subvolume", "create", fs.Dir+"/subvolume")
		})
	}
}

func TestNewOtherMakesThatKind(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		fs := NewOther(t, kind, 320<<20, "noatime")
		if got := Run(t, "findmnt", "--noheadings", "--output=FSTYPE,OPTIONS", fs.Dir); !strings.HasPrefix(got, kind) || !strings.Contains(got, "noatime") {
			t.Errorf("%s is %s", kind, got)
		}
	}
}

func TestMountHonoursOptions(t *testing.T) {
	fs := New(t, testSize, "compress=zstd")
	Run(t, "btrfs", "subvolume", "create", fs.Dir+"/@home")
	home := filepath.Join(t.TempDir(), "home")
	fs.Mount(t, home, "subvol=@home")
	if err := os.WriteFile(home+"/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fs.Dir + "/@home/file"); err != nil {
		t.Error(err)
	}
	options := Run(t, "findmnt", "--noheadings", "--output=OPTIONS", fs.Dir)
	for _, want := range []string{"compress=zstd", "commit=1"} {
		if !strings.Contains(options, want) {
			t.Errorf("mount options %s lack %s", options, want)
		}
	}
}

func TestBusyMountFailsTheTestAndIsDetached(t *testing.T) {
	RequireRoot(t)
	patience := busyPatience
	var fs *FS
	var open *os.File
	r := record(t, func(tb testing.TB) {
		fs = New(tb, testSize)
		var err error
		if open, err = os.Create(fs.Dir + "/open"); err != nil {
			tb.Fatal(err)
		}
		busyPatience = time.Second // it is busy for longer
	})
	busyPatience = patience
	open.Close()
	if !r.failed || !strings.Contains(r.output.String(), "still in use") {
		t.Errorf("a busy mount was not reported: %s", &r.output)
	}
	waitForNoTrace(t, fs)
}

func TestKeepLeavesTheFilesystemOfAFailedTest(t *testing.T) {
	RequireRoot(t)
	t.Setenv("BTRFS_BACKUP_KEEP", "1")
	dir := t.TempDir()
	t.Setenv("BTRFS_BACKUP_TEST_DIR", dir)
	var fs *FS
	r := record(t, func(tb testing.TB) {
		fs = New(tb, testSize)
		tb.Fatal("failed on purpose")
	})
	t.Cleanup(func() { unmount(t, fs.Dir) })

	if traces(t, fs) != 2 {
		t.Error("the mount or the loop device is gone")
	}
	if filepath.Dir(filepath.Dir(fs.Image)) != dir {
		t.Errorf("image %s is not in %s", fs.Image, dir)
	}
	if want := "kept " + filepath.Dir(fs.Image); !strings.Contains(r.output.String(), want) {
		t.Errorf("output %q lacks %q", &r.output, want)
	}
}

func TestRequireRoot(t *testing.T) {
	RequireRoot(t)
	for _, required := range []string{"0", "1"} {
		t.Setenv("BTRFS_BACKUP_REQUIRE_ROOT", required)
		passed := false
		r := record(t, func(tb testing.TB) {
			// For this thread alone, which ends with its goroutine.
			runtime.LockOSThread()
			const nobody, unchanged = 65534, ^uintptr(0)
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, nobody, unchanged); errno != 0 {
				tb.Fatal(errno)
			}
			RequireRoot(tb)
			passed = true
		})
		if passed || r.failed != (required == "1") || r.skipped != (required == "0") {
			t.Errorf("BTRFS_BACKUP_REQUIRE_ROOT=%s: passed %t, failed %t, skipped %t", required, passed, r.failed, r.skipped)
		}
	}
}

func TestRun(t *testing.T) {
	if got := Run(t, "printf", " a b\n\n"); got != "a b" {
		t.Errorf("stdout is %q", got)
	}
	r := record(t, func(tb testing.TB) { Run(tb, "sh", "-c", "echo out; echo err >&2; exit 7") })
	for _, want := range []string{"exit status 7", "out\n", "err\n"} {
		if !r.failed || !strings.Contains(r.output.String(), want) {
			t.Errorf("failure %q lacks %q", &r.output, want)
		}
	}
}

// traces counts the mounts and loop devices of fs.
func traces(t *testing.T, fs *FS) int {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	attached := 0
	for _, path := range devices {
		backing, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(backing), fs.Image) {
			attached++
		}
	}
	// Another test may mount the loop device as soon as it is free.
	if attached == 0 {
		return strings.Count(string(mounts), filepath.Dir(fs.Image)+"/")
	}
	return attached + strings.Count(string(mounts), " "+fs.Device+" ")
}

// waitForNoTrace allows for a moment in which udev still probes the device.
func waitForNoTrace(t *testing.T, fs *FS) {
	t.Helper()
	for end := time.Now().Add(busyPatience); traces(t, fs) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s or its loop device %s is left", fs.Dir, fs.Device)
		}
	}
}
