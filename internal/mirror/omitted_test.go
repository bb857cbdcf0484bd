package mirror

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
)

func TestAFolderInTheSourceIsLeftOutByWhateverMountItIsNamed(t *testing.T) {
	top := btrfstest.New(t, imageSize)
	s := NewSource(here(), filepath.Join(top.Dir, "source"), SourceOptions{Log: quiet()})
	write(t, s.path, "a/file", "b/file")
	for _, bound := range []string{"source", "source/a"} {
		at := t.TempDir()
		btrfstest.Run(t, "mount", "--bind", filepath.Join(top.Dir, bound), at)
		t.Cleanup(func() { btrfstest.Unmount(t, at) })
		f := NewDestination(here(), filepath.Join(at, "backups"), s, Options{Log: quiet(), MaxDelete: 100})
		mustBackUp(t, f, "1")
		inside, err := filepath.Rel(s.path, filepath.Join(top.Dir, bound, "backups"))
		check(t, err)
		if _, err := os.Lstat(filepath.Join(f.path, "1", inside)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder is in a backup in it when %s is mounted elsewhere: %v", bound, err)
		}
		if _, err := os.Lstat(filepath.Join(f.path, "1/b/file")); err != nil {
			t.Error(err)
		}
		check(t, f.Close())
	}
}

func TestWhatRsyncStopsAtIsNamed(t *testing.T) {
	top := btrfstest.New(t, imageSize)
	source := filepath.Join(top.Dir, "source")
	write(t, source, "a/file", "mounted here/x")
	check(t, btrfs.Create(btrfstest.Open(t, filepath.Join(source, "a")), "nested"))
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", "-r", top.Dir, filepath.Join(source, "snapshot"))
	btrfstest.Run(t, "mount", "-t", "tmpfs", "none", filepath.Join(source, "mounted here"))
	t.Cleanup(func() { btrfstest.Unmount(t, filepath.Join(source, "mounted here")) })
	link := filepath.Join(t.TempDir(), "link")
	check(t, os.Symlink(source, link))
	for _, path := range []string{source, link} {
		for multiFS, want := range map[bool][]string{false: {"a/nested", "mounted here"}, true: nil} {
			got, err := NewSource(here(), path, SourceOptions{Log: quiet(), MultiFS: multiFS}).Omitted(t.Context())
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, multi-fs %t: %q, %v, want %q", path, multiFS, got, err, want)
			}
		}
	}
}
