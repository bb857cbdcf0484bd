package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
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

// mountPrivately mounts a FUSE filesystem of another user, which does not answer even that one.
func mountPrivately(t *testing.T, at string) {
	t.Helper()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	check(t, err)
	t.Cleanup(func() { fuse.Close() })
	check(t, unix.Mount("fuse", at, "fuse.sshfs", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=1234,group_id=1234", fuse.Fd())))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
}

func TestMountsInASourceAreLeftOutWhateverTheyAre(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			top := btrfstest.NewOther(t, fsType, 320<<20)
			source := filepath.Join(top.Dir, "source")
			write(t, source, "etc/file", "etc/other", "chroot/etc/hidden", `we?rd\ [x]/etc/hidden`, "weird/etc/file", "doc/hidden")
			for _, bound := range []string{"chroot/etc", `we?rd\ [x]/etc`} {
				at := filepath.Join(source, bound)
				btrfstest.Run(t, "mount", "--bind", filepath.Join(source, "etc"), at)
				t.Cleanup(func() { btrfstest.Unmount(t, at) })
			}
			btrfstest.Run(t, "mount", "--bind", filepath.Join(source, "etc/file"), filepath.Join(source, "etc/other"))
			t.Cleanup(func() { btrfstest.Unmount(t, filepath.Join(source, "etc/other")) })
			mountPrivately(t, filepath.Join(source, "doc"))
			for multiFS, want := range map[bool][]string{
				false: {"chroot", "chroot/etc", "etc", "etc/file", "etc/other", `we?rd\ [x]`, `we?rd\ [x]/etc`, "weird", "weird/etc", "weird/etc/file"},
				true: {"chroot", "chroot/etc", "chroot/etc/file", "chroot/etc/other", "etc", "etc/file", "etc/other", `we?rd\ [x]`, `we?rd\ [x]/etc`,
					`we?rd\ [x]/etc/file`, `we?rd\ [x]/etc/other`, "weird", "weird/etc", "weird/etc/file"},
			} {
				s := NewSource(here(), source, SourceOptions{Log: quiet(), MultiFS: multiFS})
				f := folderFor(t, s, Options{})
				mustBackUp(t, f, "1") // complete, although nobody may look into doc
				var got []string
				check(t, filepath.WalkDir(filepath.Join(f.path, "1"), func(path string, _ fs.DirEntry, err error) error {
					if rel, _ := filepath.Rel(filepath.Join(f.path, "1"), path); rel != "." {
						got = append(got, rel)
					}
					return err
				}))
				if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
					t.Errorf("multi-fs %t: %q", multiFS, got)
				}
				omitted, err := s.Omitted(t.Context())
				check(t, err)
				told := []string{"doc"}
				if !multiFS {
					told = []string{"chroot/etc", "doc", `we?rd\ [x]/etc`}
				}
				if !slices.Equal(omitted, told) {
					t.Errorf("multi-fs %t: told is %q", multiFS, omitted)
				}
			}
		})
	}
}

func TestOfMountsThatOthersHideNothingIsLeftOut(t *testing.T) {
	btrfstest.RequireRoot(t)
	source := t.TempDir()
	mount := func(at string) {
		t.Helper()
		check(t, os.MkdirAll(filepath.Join(source, at), 0o755))
		btrfstest.Run(t, "mount", "-t", "tmpfs", "none", filepath.Join(source, at))
		t.Cleanup(func() { btrfstest.Unmount(t, filepath.Join(source, at)) })
	}
	mount("a/b")
	mount("a") // hides a/b
	mount("a/c/d")
	mount(".") // hides all of these
	write(t, source, "a/b/file", "a/c/d/file")
	mount("x/y")
	mount("x/y")
	mount("x/y/z")
	mount("x") // hides x/y
	write(t, source, "x/y/file")
	s := NewSource(here(), source, SourceOptions{Log: quiet()})
	omitted, err := s.Omitted(t.Context())
	if check(t, err); !slices.Equal(omitted, []string{"x"}) {
		t.Errorf("told is %q", omitted)
	}
	f := folderFor(t, s, Options{})
	mustBackUp(t, f, "1")
	for _, path := range []string{"a/b/file", "a/c/d/file"} {
		_, err := os.Stat(filepath.Join(f.path, "1", path))
		check(t, err)
	}
}

func TestADirectoryInASubvolumeIsTold(t *testing.T) {
	top := btrfstest.New(t, imageSize)
	check(t, btrfs.Create(btrfstest.Open(t, top.Dir), "home"))
	write(t, top.Dir, "home/me/file")
	other := t.TempDir()
	bound := t.TempDir()
	btrfstest.Run(t, "mount", "--bind", filepath.Join(top.Dir, "home/me"), bound)
	t.Cleanup(func() { btrfstest.Unmount(t, bound) })
	for dir, want := range map[string]string{filepath.Join(top.Dir, "home/me"): filepath.Join(top.Dir, "home"), other: "", bound: ""} {
		if got := NewSource(here(), dir, SourceOptions{Log: quiet()}).Within(t.Context()); got != want {
			t.Errorf("%s is in %q, want %q", dir, got, want)
		}
	}
}
