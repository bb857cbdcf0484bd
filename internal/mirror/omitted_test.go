package mirror

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
)

func TestWhatRsyncStopsAtIsNamed(t *testing.T) {
	top := btrfstest.New(t, imageSize)
	source := filepath.Join(top.Dir, "source")
	write(t, source, "a/file", "mounted here/x")
	check(t, btrfs.Create(btrfstest.Open(t, filepath.Join(source, "a")), "nested"))
	btrfstest.Run(t, "mount", "-t", "tmpfs", "none", filepath.Join(source, "mounted here"))
	t.Cleanup(func() { btrfstest.Run(t, "umount", filepath.Join(source, "mounted here")) })
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
