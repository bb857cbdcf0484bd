// Package btrfstest gives tests a real btrfs, trees worth backing up, and a
// deep comparison of two trees.
//
// New mounts a fresh filesystem for one test. Populate and Change fill it with
// what a backup can get wrong. Equal and Diff tell whether a copy is complete.
//
// Nothing outlives a test: mounts end with it, and a loop device goes away with
// its last mount. A test killed inside a private mount namespace leaves its image
// file alone, or nothing when that namespace has its own BTRFS_BACKUP_TEST_DIR.
//
// The environment decides what differs between machines:
//
//	BTRFS_BACKUP_REQUIRE_ROOT=1  fail, instead of skip, without root
//	BTRFS_BACKUP_TEST_ALL=1      run also what OnlyInAll skips
//	BTRFS_BACKUP_TEST_DIR=DIR    keep images and mount points in DIR
//	BTRFS_BACKUP_KEEP=1          leave the filesystem of a failed test as it is
package btrfstest

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// busyPatience is how long a mount may stay busy after its test: a killed
// program needs a moment to let go of its files.
var busyPatience = 5 * time.Minute

// FS is a filesystem that lives as long as one test.
type FS struct {
	Dir    string // where it is mounted, a btrfs with its top-level subvolume
	Device string // loop device
	Image  string // backing file

	kind string // "" is btrfs
}

// New makes a btrfs of size bytes, at least 128 MiB, mounts it with the given
// options and removes it at the end of the test. Transactions are committed
// every second unless the options say otherwise.
func New(t testing.TB, size int64, options ...string) *FS {
	t.Helper()
	return newFS(t, "btrfs", size, slices.Concat([]string{"commit=1"}, options))
}

// NewOther makes a filesystem of another kind, "ext4" or "xfs" (at least
// 300 MiB), as New does.
func NewOther(t testing.TB, kind string, size int64, options ...string) *FS {
	t.Helper()
	return newFS(t, kind, size, options)
}

func newFS(t testing.TB, kind string, size int64, options []string) *FS {
	t.Helper()
	RequireRoot(t)

	base := workDir(t, size)
	fs := &FS{Dir: filepath.Join(base, "mnt"), Image: filepath.Join(base, "image"), kind: kind}
	makeImage(t, kind, fs.Image, size)

	device, err := attach(fs.Image)
	if err != nil {
		t.Fatal(err)
	}
	// The mount holds the device from here on, and its end releases it.
	defer device.Close()
	fs.Device = device.Name()
	fs.Mount(t, fs.Dir, options...)
	return fs
}

// Mount makes dir and mounts the filesystem there once more, until the end of
// the test. The kernel honours the options that belong to one mount ("subvol=",
// "ro", "noatime"); those of the whole filesystem stay as New set them.
func (fs *FS) Mount(t testing.TB, dir string, options ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	argv := []string{"mount", "-t", cmp.Or(fs.kind, "btrfs")}
	if len(options) > 0 {
		argv = append(argv, "-o", strings.Join(options, ","))
	}
	Run(t, append(argv, "--", fs.Device, dir)...)
	t.Cleanup(func() {
		if !kept(t) {
			unmount(t, dir)
		}
	})
}

// Crash gives the filesystem as it would be found after a power failure at this
// moment, mounted. The original is unmounted: the kernel refuses to mount two
// filesystems with the same UUID.
func (fs *FS) Crash(t testing.TB) (dir string) {
	t.Helper()
	base := filepath.Dir(fs.Image)
	crashed := FS{Device: filepath.Join(base, "crashed"), kind: fs.kind}
	Run(t, "cp", "--sparse=always", fs.Image, crashed.Device)
	Unmount(t, fs.Dir)
	Run(t, "btrfs", "device", "scan", "--forget")
	dir = filepath.Join(base, "after")
	crashed.Mount(t, dir, "loop")
	return dir
}

// workDir returns a directory of the test's own, in memory when there is room.
func workDir(t testing.TB, size int64) string {
	t.Helper()
	dir, err := os.MkdirTemp(workParent(size), "btrfstest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if kept(t) {
			t.Logf("kept %s", dir)
			return
		}
		// Never into a mount that could not be undone.
		Run(t, "rm", "-rf", "--one-file-system", "--", dir)
	})
	return dir
}

func workParent(size int64) string {
	if dir := os.Getenv("BTRFS_BACKUP_TEST_DIR"); dir != "" {
		return dir
	}
	const memory = "/dev/shm"
	var st unix.Statfs_t
	if unix.Access(memory, unix.W_OK) == nil && unix.Statfs(memory, &st) == nil &&
		int64(st.Bavail)*int64(st.Bsize) >= size {
		return memory
	}
	return os.TempDir()
}

func makeImage(t testing.TB, kind, path string, size int64) {
	t.Helper()
	image, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(image.Truncate(size), image.Close()); err != nil {
		t.Fatal(err)
	}
	options := map[string][]string{
		"btrfs": {"--quiet"},
		"ext4":  {"-q", "-b", "4096"}, // of a small filesystem they would be smaller, with room for few attributes
		"xfs":   {"-q"},
	}
	makeFilesystem(t, slices.Concat([]string{"mkfs." + kind}, options[kind], []string{path})...)
}

// makeFilesystem runs mkfs. That of btrfs asks all loop devices whether they are
// mounted, and fails if another test detaches one at this moment.
func makeFilesystem(t testing.TB, argv ...string) {
	t.Helper()
	for end := time.Now().Add(busyPatience); ; time.Sleep(50 * time.Millisecond) {
		said, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(end) || !bytes.Contains(said, []byte("cannot check mount status")) {
			t.Fatalf("%q: %v\n%s", argv, err, said)
		}
	}
}

func kept(t testing.TB) bool {
	return t.Failed() && os.Getenv("BTRFS_BACKUP_KEEP") == "1"
}

// Unmount unmounts dir. A program that another test starts at this moment has
// the files of this process open until it runs, so it may be busy for a moment.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	if err := unmountSoon(dir); err != nil {
		t.Fatalf("unmounting %s: %v", dir, err)
	}
}

func unmountSoon(dir string) error {
	err := unix.Unmount(dir, 0)
	for end := time.Now().Add(busyPatience); errors.Is(err, unix.EBUSY) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		err = unix.Unmount(dir, 0)
	}
	return err
}

// unmount fails the test when dir stays busy: something was left running.
func unmount(t testing.TB, dir string) {
	t.Helper()
	err := unmountSoon(dir)
	switch {
	case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // a test may unmount by itself
	case errors.Is(err, unix.EBUSY):
		t.Errorf("%s is still in use at the end of the test, detaching it", dir)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("detaching %s: %v", dir, err)
		}
	default:
		t.Errorf("unmounting %s: %v", dir, err)
	}
}
