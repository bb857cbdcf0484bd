package volume

import (
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// bind mounts a directory at another place until the end of the test.
func bind(t testing.TB, dir string) string {
	t.Helper()
	at := newDir(t, t.TempDir(), "bound to\tsomewhere")
	btrfstest.Run(t, "mount", "--bind", dir, at)
	t.Cleanup(func() { btrfstest.Unmount(t, at) })
	return at
}

func TestIncrementsArriveThroughEveryMount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		mount func(t *testing.T, filesystem *btrfstest.FS, disk string) (folder string)
	}{
		{"mount of a subvolume", func(t *testing.T, filesystem *btrfstest.FS, _ string) string {
			mounted := filepath.Join(t.TempDir(), "mounted")
			filesystem.Mount(t, mounted, "subvol=disk")
			return mounted + "/plain"
		}},
		{"a subvolume bound", func(t *testing.T, _ *btrfstest.FS, disk string) string { return bind(t, disk) + "/plain" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			filesystem := btrfstest.New(t, testSize)
			disk := newSubvolume(t, filesystem.Dir, "disk")
			plain := newDir(t, disk, "plain")
			folder := test.mount(t, filesystem, disk)
			s := openSource(t, newSubvolume(t, filesystem.Dir, "home"), "", silent)
			sendTwo(t, s, openDestination(t, folder, silent))
			for _, dir := range []string{plain, folder} {
				wantNames(t, dir, ".btrfs-backup", "first", "second")
			}
		})
	}
}
