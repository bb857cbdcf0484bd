package btrfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

func TestOrdinaryUserSeesWhatRootSees(t *testing.T) {
	const count = 600 // the kernel answers with 255 at most
	home := newSubvolume(t, btrfstest.New(t, testSize).Dir, "home")
	folder := newDir(t, home.Name(), "folder")
	for i := range count {
		check(t, btrfs.Create(folder, fmt.Sprintf("child %0*d", 3+i%32, i)))
	}
	nested := newSubvolume(t, folder.Name(), "nested")
	newSubvolume(t, nested.Name(), "out of sight")
	newDir(t, folder.Name(), "below")
	newSubvolume(t, folder.Name(), "below", "beneath")
	newSubvolume(t, home.Name(), "beside")
	newDir(t, home.Name(), "secret", "below")
	newSubvolume(t, home.Name(), "secret", "below", "out of reach")
	check(t, os.Chmod(home.Name()+"/secret", 0o700))
	btrfstest.Run(t, "sync", "-f", home.Name())

	for dir, inReach := range map[*os.File]int{home: count + 3, folder: count + 2} {
		var seen btrfs.Listing
		var err error
		asUser(t, func() { seen, err = btrfs.List(dir) })
		check(t, err)
		all := list(t, dir)
		if len(seen.All) != inReach {
			t.Errorf("%s: %d subvolumes in reach, want %d", dir.Name(), len(seen.All), inReach)
		}
		for _, s := range seen.All {
			if want := find(t, all.All, s.ID); !equal(s, want) {
				t.Errorf("the user sees\n%+v, root\n%+v", s, want)
			}
		}
		if got, want := ids(seen.InDirectory), ids(all.InDirectory); !slices.Equal(got, want) {
			t.Errorf("in %s the user sees %d, root %d", dir.Name(), len(got), len(want))
		}
	}
}

func TestListFailsRatherThanLeaveOutWhatItMayNotRead(t *testing.T) {
	home := newSubvolume(t, btrfstest.New(t, testSize).Dir, "home")
	newSubvolume(t, home.Name(), "open")
	check(t, newSubvolume(t, home.Name(), "closed").Chmod(0o700))
	asUser(t, func() {
		listing, err := btrfs.List(home)
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(fmt.Sprint(err), "closed") {
			t.Errorf("listed %q, error: %v", names(listing.All), err)
		}
	})
}

func TestChildrenLieBelowTheDirectoryInTheSameSubvolume(t *testing.T) {
	home := newSubvolume(t, btrfstest.New(t, testSize).Dir, "home")
	below := newDir(t, home.Name(), "a", "b")
	direct := newSubvolume(t, home.Name(), "direct")
	nested := newSubvolume(t, below.Name(), "new\nline")
	newSubvolume(t, nested.Name(), "inner")
	child := func(s *os.File, path string) btrfs.Child {
		return btrfs.Child{ID: info(t, s).ID, DirID: inode(t, filepath.Dir(s.Name())), Path: path}
	}
	tests := map[*os.File][]btrfs.Child{
		home:                      {child(direct, "direct"), child(nested, "a/b/new\nline")},
		open(t, home.Name()+"/a"): {child(nested, "b/new\nline")},
		below:                     {child(nested, "new\nline")},
		direct:                    nil,
	}
	for dir, want := range tests {
		seen := func() {
			if got, err := btrfs.Children(dir); err != nil || !slices.Equal(got, want) {
				t.Errorf("children of %s: %+v, want %+v, %v", dir.Name(), got, want, err)
			}
		}
		seen()
		asUser(t, seen)
	}
}

func TestOrdinaryUserWorksOnSubvolumesOfHisOwn(t *testing.T) {
	home := newSubvolume(t, btrfstest.New(t, testSize, "user_subvol_rm_allowed").Dir, "home")
	folder := newDir(t, home.Name(), "folder")
	check(t, errors.Join(home.Chown(userID, userID), folder.Chown(userID, userID)))
	asUser(t, func() {
		for what, err := range map[string]error{
			"create":   btrfs.Create(folder, "created"),
			"snapshot": btrfs.Snapshot(home, folder, "snapshot"),
			"rename":   btrfs.Rename(folder, "created", "renamed"),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	if got, want := names(list(t, folder).InDirectory), []string{"renamed", "snapshot"}; !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	asUser(t, func() {
		if err := btrfs.Delete(folder, "snapshot"); !errors.Is(err, unix.EROFS) && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("deleting a read-only subvolume: %v", err)
		}
		succeed := func(what string, err error) {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		succeed("clearing the read-only flag", btrfs.SetReadOnly(folder, "snapshot", false))
		succeed("deleting the snapshot", btrfs.Delete(folder, "snapshot"))
		succeed("deleting the subvolume", btrfs.Delete(folder, "renamed"))
	})
	if left := names(list(t, folder).InDirectory); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestOrdinaryUserIsRefusedWhatIsNotHis(t *testing.T) {
	home := newSubvolume(t, btrfstest.New(t, testSize).Dir, "home")
	folder := newDir(t, home.Name(), "folder")
	check(t, folder.Chmod(0o777))
	newSubvolume(t, folder.Name(), "subvolume")
	asUser(t, func() {
		for what, err := range map[string]error{
			"snapshot":  btrfs.Snapshot(home, folder, "snapshot"),
			"delete":    btrfs.Delete(folder, "subvolume"),
			"read-only": btrfs.SetReadOnly(folder, "subvolume", true),
		} {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if sizes, err := btrfs.Sizes(home); len(sizes) > 0 || err != nil {
			t.Errorf("sizes: %v, %v", sizes, err)
		}
	})
	if got := list(t, folder).InDirectory; len(got) != 1 || got[0].Name != "subvolume" || got[0].ReadOnly {
		t.Errorf("changed: %+v", got)
	}
}
