package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// inodesIn gives the number of files in a directory, and of their inodes.
func inodesIn(t *testing.T, dir string) (names, inodes int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	seen := make(map[uint64]bool)
	for _, e := range entries {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(dir, e.Name()), &st))
		seen[st.Ino] = true
	}
	return len(entries), len(seen)
}

func TestAFileWithAsManyNamesAsTheFilesystemAllowsIsCopiedAnew(t *testing.T) {
	const names = 33000 // ext4 allows 65,000
	top := btrfstest.NewOther(t, "ext4", 256<<20).Dir
	s := sourceOf(t, SourceOptions{}, "d/file", "other")
	for i := range names - 1 {
		check(t, os.Link(filepath.Join(s.path, "d/file"), filepath.Join(s.path, fmt.Sprintf("d/%d", i))))
	}
	f := NewDestination(here(), filepath.Join(top, "backups"), s, Options{Log: quiet(), MaxDelete: 100})
	for _, backup := range []string{"1", "2", "3"} {
		mustBackUp(t, f, backup)
		if all, inodes := inodesIn(t, filepath.Join(f.path, backup, "d")); all != names || inodes != 1 {
			t.Errorf("%s has %d names of %d inodes", backup, all, inodes)
		}
		if _, err := os.Stat(filepath.Join(f.path, ".btrfs-backup/full")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after %s: %v", backup, err)
		}
	}
	var first, last unix.Stat_t
	check(t, unix.Lstat(filepath.Join(f.path, "1/other"), &first))
	check(t, unix.Lstat(filepath.Join(f.path, "3/other"), &last))
	if first.Ino != last.Ino {
		t.Error("another file was copied, too")
	}
}

func TestAFileWithMoreNamesThanTheFilesystemAllowsBecomesSeveral(t *testing.T) {
	s := sourceOf(t, SourceOptions{}, "file")
	check(t, os.Link(filepath.Join(s.path, "file"), filepath.Join(s.path, "name")))
	rsyncIs(t, `case "$*" in *--no-hard-links*) exec "$real" "$@";; esac
echo 'rsync: [generator] link "/b/name" => file failed: Too many links (31)' >&2; exit 2`)
	f := folderFor(t, s, Options{})
	for _, backup := range []string{"1", "2"} {
		copied, err := backUp(t.Context(), f, backup)
		check(t, err)
		if copied.Incomplete == nil || !strings.Contains(copied.Incomplete.Error(), "hard links") {
			t.Errorf("%s: %v", backup, copied.Incomplete)
		}
		if all, inodes := inodesIn(t, filepath.Join(f.path, backup)); all != 2 || inodes != 2 {
			t.Errorf("%s has %d names of %d inodes", backup, all, inodes)
		}
	}
}
