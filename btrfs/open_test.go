package btrfs_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

func TestOpenDirAtStaysBelowItsDirectory(t *testing.T) {
	inside := newDir(t, t.TempDir(), "inside")
	newDir(t, inside.Name(), "a", "b")
	newDir(t, inside.Name(), "..", "outside")
	check(t, os.WriteFile(inside.Name()+"/file", nil, 0o644))
	check(t, os.Symlink("a", inside.Name()+"/link"))
	check(t, os.Symlink("../outside", inside.Name()+"/escape"))
	tests := []struct {
		path string
		want error
	}{
		{"a", nil},
		{"a/b", nil},
		{"a/../a/b", nil},
		{".", nil},
		{"missing", unix.ENOENT},
		{"file", unix.ENOTDIR},
		{"link", unix.ELOOP},
		{"link/b", unix.ELOOP},
		{"a/../link", unix.ELOOP},
		{"escape", unix.ELOOP},
		{"..", unix.EXDEV},
		{"../outside", unix.EXDEV},
		{"a/../../outside", unix.EXDEV},
		{"/", unix.EXDEV},
		{inside.Name(), unix.EXDEV},
	}
	for _, test := range tests {
		dir, err := btrfs.OpenDirAt(inside, test.path)
		if !errors.Is(err, test.want) {
			t.Errorf("opening %q: %v, want %v", test.path, err, test.want)
		}
		var pathError *fs.PathError
		if err != nil && (!errors.As(err, &pathError) || !strings.HasPrefix(pathError.Path, inside.Name())) {
			t.Errorf("opening %q: the path is not in the error: %v", test.path, err)
		}
		if err == nil {
			check(t, dir.Close())
		}
	}
}

func TestOpenDirAtFollowsNoMagicLink(t *testing.T) {
	if dir, err := btrfs.OpenDirAt(open(t, "/proc/self"), "cwd"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("opened %v, error: %v", dir, err)
	}
}

func TestInfoAtDescribesOnlyWhatLiesBelow(t *testing.T) {
	source, folder := newSource(t)
	s := snapshot(t, source, folder, "snapshot")
	check(t, os.Symlink(source.Name(), folder.Name()+"/link"))
	got, err := btrfs.InfoAt(folder, "snapshot")
	check(t, err)
	if want := info(t, s); !equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, err := btrfs.InfoAt(folder, "link"); err == nil {
		t.Errorf("described %+v by a symbolic link", got)
	}
}
