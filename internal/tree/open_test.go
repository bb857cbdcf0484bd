package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// mount mounts a filesystem in memory, or a directory once more, until the end of the test.
func mount(t *testing.T, source, dir string) {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o755))
	kind, flags := "tmpfs", uintptr(0)
	if source != "" {
		kind, flags = "", unix.MS_BIND
	}
	check(t, unix.Mount(source, dir, kind, flags, ""))
	t.Cleanup(func() { // detached, since a program that another test starts may hold a file in it for a moment
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
}

func TestOpenCreatesAFolderOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b")
	if _, err := Open(path, OpenOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening what is missing: %v", err)
	}
	if exists(filepath.Dir(path)) {
		t.Error("something was created")
	}
	dir, err := Open(path, OpenOptions{Create: true})
	check(t, err)
	defer dir.Close()
	if dir.Name() != path {
		t.Errorf("it is named %s", dir.Name())
	}
}

func TestOpenRefusesWhatIsNoDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "file")
	for _, path := range []string{"file", "file/below"} {
		if f, err := Open(filepath.Join(dir, path), OpenOptions{Create: true}); err == nil {
			f.Close()
			t.Errorf("opened %s", path)
		}
	}
}

func TestOpenAcceptsWhatLiesOnTheMount(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	x := t.TempDir()
	disk := filepath.Join(x, "backup")
	mount(t, "", disk)
	check(t, os.Symlink(disk, filepath.Join(x, "link")))
	for _, path := range []string{"backup", "backup/new", "backup/new/below", "link/through", "backup/../backup/new"} {
		dir, err := Open(filepath.Join(x, path), OpenOptions{MountPoint: disk, Create: true})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		dir.Close()
	}
	if _, err := Open(disk+"/missing", OpenOptions{MountPoint: disk}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening what is missing: %v", err)
	}
	if _, err := mountedAt("/"); err != nil {
		t.Errorf("the root is no mount point: %v", err)
	}
}

// Each subvolume of a btrfs has a device number of its own.
func TestOpenAcceptsSubvolumesOfTheMount(t *testing.T) {
	t.Parallel()
	disk := btrfstest.New(t, imageSize).Dir
	check(t, btrfs.Create(btrfstest.Open(t, disk), "subvolume"))
	dir, err := Open(disk+"/subvolume/folder", OpenOptions{MountPoint: disk, Create: true})
	check(t, err)
	dir.Close()
}

func TestOpenRefusesWhatLiesElsewhereAndCreatesNothing(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	x := t.TempDir()
	mounted, plain := filepath.Join(x, "backup"), filepath.Join(x, "plain")
	mount(t, "", mounted)
	mount(t, "", mounted+"/another")
	write(t, mounted, "directory/file")
	mount(t, mounted+"/directory", mounted+"/bind") // has the same device number
	check(t, os.Mkdir(plain, 0o755))
	check(t, os.Symlink(plain, mounted+"/way-out"))
	check(t, os.Symlink(mounted, x+"/unmounted"))

	for _, test := range []struct{ path, mountPoint string }{
		{x + "/backups2", mounted}, // a name that begins like that of the mount point
		{x + "/backups2/below", mounted},
		{plain, mounted},
		{mounted + "/way-out/folder", mounted},
		{mounted + "/another/folder", mounted},
		{mounted + "/bind/folder", mounted},
		{mounted + "/../plain/folder", mounted},
		{plain + "/folder", plain}, // nothing is mounted there
		{mounted + "/directory/folder", mounted + "/directory"},
		{x + "/missing/folder", x + "/missing"},
	} {
		unchanged(t, []string{x}, func() {
			dir, err := Open(test.path, OpenOptions{MountPoint: test.mountPoint, Create: true})
			if err == nil {
				dir.Close()
			}
			if !errors.Is(err, ErrNotMounted) || errors.Is(err, fs.ErrNotExist) || hintOf(err) == "" {
				t.Errorf("%s on %s: %v, hint %q", test.path, test.mountPoint, err, hintOf(err))
			}
		})
	}
}
