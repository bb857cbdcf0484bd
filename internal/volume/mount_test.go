package volume

import (
	"path/filepath"
	"slices"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
)

// bind mounts a directory at another place until the end of the test.
func bind(t testing.TB, dir string) string {
	t.Helper()
	at := newDir(t, t.TempDir(), "bound to\tsomewhere")
	btrfstest.Run(t, "mount", "--bind", dir, at)
	t.Cleanup(func() { btrfstest.Run(t, "umount", at) })
	return at
}

func TestOnlyAPlainDirectoryThatIsMountedNeedsAMountOfItsOwn(t *testing.T) {
	filesystem := btrfstest.New(t, testSize)
	top := filesystem.Dir
	disk := newSubvolume(t, top, "disk")
	plain := newDir(t, disk, "plain")
	newDir(t, plain, "folder")
	mounted := filepath.Join(t.TempDir(), "mounted")
	filesystem.Mount(t, mounted, "subvol=disk")
	boundPlain, boundDisk := bind(t, plain), bind(t, disk)
	tests := []struct {
		name, folder string
		private      string // the folder in the private mount
	}{
		{"top level", top, ""},
		{"below the top level", plain, ""},
		{"mount of a subvolume", mounted + "/plain", ""},
		{"a subvolume bound", boundDisk + "/plain/folder", ""},
		{"a plain directory bound", boundPlain, boundPlain + "/disk/plain"},
		{"below a plain directory bound", boundPlain + "/folder", boundPlain + "/disk/plain/folder"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			argv, err := openDestination(t, test.folder, silent).receiveCommand()
			check(t, err)
			want := []string{"btrfs", "receive", "-q", test.folder}
			if test.private == "" {
				if !slices.Equal(argv, want) {
					t.Errorf("%q, want %q", argv, want)
				}
				return
			}
			want[len(want)-1] = test.private
			if argv[0] != "unshare" || !slices.Equal(argv[len(argv)-len(want):], want) {
				t.Errorf("%q, want %q in a mount namespace of its own", argv, want)
			}
		})
	}
}

func TestIncrementsArriveThroughEveryMount(t *testing.T) {
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
