package btrfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestInfoOfAPlainDirectoryIsThatOfItsSubvolume(t *testing.T) {
	home := newSubvolume(t, btrfstest.New(t, testSize, "noatime").Dir, "home")
	plain := newDir(t, home.Name(), "a", "b")
	if got, want := info(t, plain), info(t, home); !equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestInfoOfTheTopLevelHasNoContainer(t *testing.T) {
	top := info(t, open(t, btrfstest.New(t, testSize).Dir))
	if top.ID != 5 || top.Container != 0 || top.Name != "" || top.ReadOnly {
		t.Errorf("%+v", top)
	}
}

func TestPathStartsAtTheTopLevelWhateverIsMounted(t *testing.T) {
	filesystem := btrfstest.New(t, testSize)
	top := filesystem.Dir
	outer := newSubvolume(t, top, "outer")
	between := newDir(t, outer.Name(), "plain", "new\nline")
	inner := newSubvolume(t, between.Name(), "inner")
	newDir(t, inner.Name(), "deep")
	newDir(t, top, "plain", "directory")
	bound := newDir(t, t.TempDir(), "bound").Name()
	btrfstest.Run(t, "mount", "--bind", inner.Name()+"/deep", bound)
	t.Cleanup(func() { btrfstest.Unmount(t, bound) })
	mounted := filepath.Join(t.TempDir(), "mounted")
	filesystem.Mount(t, mounted, "subvol=outer")

	tests := map[string]string{
		top:                                     "",
		top + "/plain/directory":                "plain/directory",
		outer.Name():                            "outer",
		between.Name():                          "outer/plain/new\nline",
		inner.Name():                            "outer/plain/new\nline/inner",
		inner.Name() + "/deep":                  "outer/plain/new\nline/inner/deep",
		mounted:                                 "outer",
		mounted + "/plain":                      "outer/plain",
		mounted + "/plain/new\nline/inner":      "outer/plain/new\nline/inner",
		mounted + "/plain/new\nline/inner/deep": "outer/plain/new\nline/inner/deep",
		bound:                                   "outer/plain/new\nline/inner/deep",
		"/proc/self/cwd/" + relative(t, bound):  "outer/plain/new\nline/inner/deep",
		bound + "/../bound/./":                  "outer/plain/new\nline/inner/deep",
		mounted + "/plain/new\nline/../new\nline": "outer/plain/new\nline",
	}
	for path, want := range tests {
		got, err := btrfs.Path(open(t, path))
		check(t, err)
		if strings.TrimSuffix(got, "/") != want {
			t.Errorf("%q has the path %q, want %q", path, got, want)
		}
	}
}

func relative(t testing.TB, path string) string {
	t.Helper()
	wd, err := os.Getwd()
	check(t, err)
	rel, err := filepath.Rel(wd, path)
	check(t, err)
	return rel
}

func TestChecksTellWhatADirectoryIsNot(t *testing.T) {
	top := btrfstest.New(t, testSize).Dir
	home := newSubvolume(t, top, "home")
	snapshot(t, home, open(t, top), "snapshot")
	newSubvolume(t, home.Name(), "nested")
	snapshot(t, home, open(t, top), "later") // holds an empty directory in place of nested
	tests := []struct {
		dir                   *os.File
		filesystem, subvolume error
	}{
		{open(t, top), nil, nil},
		{home, nil, nil},
		{open(t, top+"/snapshot"), nil, nil},
		{newDir(t, home.Name(), "plain"), nil, btrfs.ErrNotSubvolume},
		{open(t, top+"/later/nested"), nil, btrfs.ErrNotSubvolume},
		{open(t, "/proc"), btrfs.ErrNotBtrfs, btrfs.ErrNotBtrfs},
	}
	for _, test := range tests {
		if err := btrfs.CheckFilesystem(test.dir); !errors.Is(err, test.filesystem) {
			t.Errorf("filesystem check of %s: %v, want %v", test.dir.Name(), err, test.filesystem)
		}
		if err := btrfs.CheckSubvolume(test.dir); !errors.Is(err, test.subvolume) {
			t.Errorf("subvolume check of %s: %v, want %v", test.dir.Name(), err, test.subvolume)
		}
	}
}

func TestFilesystemIDTellsFilesystemsApart(t *testing.T) {
	first, second := btrfstest.New(t, testSize), btrfstest.New(t, testSize)
	var seen []string
	for _, filesystem := range []*btrfstest.FS{first, second} {
		want := btrfstest.Run(t, "blkid", "-o", "value", "-s", "UUID", filesystem.Image)
		for _, dir := range []*os.File{open(t, filesystem.Dir), newSubvolume(t, filesystem.Dir, "home")} {
			got, err := btrfs.FilesystemID(dir)
			check(t, err)
			if got.String() != want {
				t.Errorf("%s is on %s, want %s", dir.Name(), got, want)
			}
		}
		seen = append(seen, want)
	}
	if len(slices.Compact(seen)) != 2 {
		t.Fatalf("both are %s", seen[0])
	}
}
