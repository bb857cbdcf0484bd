package btrfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// newMixture makes a filesystem with subvolumes of all kinds, and gives the paths of these.
func newMixture(t testing.TB) (top string, paths []string) {
	t.Helper()
	top = btrfstest.New(t, testSize, "noatime").Dir // looking on changes nothing
	home := newSubvolume(t, top, "home")
	folder := newDir(t, top, "home", "folder")
	first := snapshot(t, home, folder, "first")
	check(t, os.WriteFile(home.Name()+"/file", []byte("content"), 0o644))
	second := snapshot(t, home, folder, "second")
	inner := newSubvolume(t, top, "home", "folder", "writable")
	newSubvolume(t, inner.Name(), "inner")
	newDir(t, folder.Name(), "below")
	newSubvolume(t, folder.Name(), "below", "nested")

	received := newDir(t, top, "received")
	receive(t, received.Name(), first, second)
	snapshot(t, open(t, received.Name()+"/first"), received, "duplicate of first")

	// the same name in a directory of the same inode number, in another subvolume
	newSubvolume(t, top, "twin")
	twin := newDir(t, top, "twin", "folder")
	newSubvolume(t, twin.Name(), "first")
	if inode(t, twin.Name()) != inode(t, folder.Name()) {
		t.Fatal("the directories were to have the same inode number")
	}

	odd := newDir(t, top, "odd")
	for _, name := range []string{"new\nline\tand space", "ünï\u202e☃", "\xff\xfe", strings.Repeat("n", 255), "-p", "'\"$(x)"} {
		snapshot(t, home, odd, name)
	}
	btrfstest.Run(t, "sync", "-f", top)
	check(t, filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != top && inode(t, path) == 256 {
			paths = append(paths, path)
		}
		return err
	}))
	if len(paths) != 17 {
		t.Fatalf("%d subvolumes: %q", len(paths), paths)
	}
	return top, paths
}

func TestListAndInfoTellWhatTheBtrfsProgramTells(t *testing.T) {
	top, paths := newMixture(t)
	listing := list(t, open(t, top))
	for _, path := range paths {
		want := show(t, path)
		got := find(t, listing.All, want.ID)
		if !equal(asShown(got), want) {
			t.Errorf("%q is listed as\n%+v, want\n%+v", path, got, want)
		}
		if described := info(t, open(t, path)); !equal(described, got) {
			t.Errorf("%q is described as\n%+v, listed as\n%+v", path, described, got)
		}
	}
}

func TestListHoldsEverySubvolumeOnce(t *testing.T) {
	top, _ := newMixture(t)
	var want []uint64
	lines := regexp.MustCompile(`(?m)^ID (\d+) gen `)
	for _, m := range lines.FindAllStringSubmatch(btrfstest.Run(t, "btrfs", "subvolume", "list", "-a", top), -1) {
		id, err := strconv.ParseUint(m[1], 10, 64)
		check(t, err)
		want = append(want, id)
	}
	slices.Sort(want)
	for _, dir := range []string{"", "home", "home/folder", "odd"} {
		if got := ids(list(t, open(t, filepath.Join(top, dir))).All); !slices.Equal(got, want) {
			t.Errorf("listed from %q: %v, want %v", dir, got, want)
		}
	}
}

func TestInDirectoryHoldsTheDirectChildrenOnly(t *testing.T) {
	top, paths := newMixture(t)
	for _, dir := range []string{"", "home", "home/folder", "home/folder/below", "home/folder/writable", "home/folder/first", "received", "twin/folder", "odd"} {
		dir := filepath.Join(top, dir)
		var want []string
		for _, path := range paths {
			if filepath.Dir(path) == dir {
				want = append(want, filepath.Base(path))
			}
		}
		slices.Sort(want)
		if got := names(list(t, open(t, dir)).InDirectory); !slices.Equal(got, want) {
			t.Errorf("in %s: %q, want %q", dir, got, want)
		}
	}
}

func TestListHoldsEveryCopyOfAReceivedUUID(t *testing.T) {
	top, _ := newMixture(t)
	sent := info(t, open(t, top+"/home/folder/first"))
	listing := list(t, open(t, top+"/received"))
	copies := slices.DeleteFunc(listing.InDirectory, func(s btrfs.Subvolume) bool { return s.Identity() != sent.UUID })
	if got, want := names(copies), []string{"duplicate of first", "first"}; !slices.Equal(got, want) {
		t.Errorf("copies: %q, want %q", got, want)
	}
	for _, c := range copies {
		if c.SentIn != sent.ChangedIn || c.UUID == sent.UUID {
			t.Errorf("%+v is no copy of %+v", c, sent)
		}
	}
}

func TestListLeavesOutWhatIsBeingDeleted(t *testing.T) {
	dir := open(t, btrfstest.New(t, testSize).Dir)
	deleted := newSubvolume(t, dir.Name(), "deleted")
	kept := newSubvolume(t, dir.Name(), "kept")
	check(t, os.WriteFile(deleted.Name()+"/file", nil, 0o644))
	open(t, deleted.Name()+"/file") // the kernel does not clean up a subvolume in use
	gone, stays := info(t, deleted), info(t, kept)
	check(t, btrfs.Delete(dir, "deleted"))
	if still := btrfstest.Run(t, "btrfs", "subvolume", "list", "-d", dir.Name()); !strings.HasPrefix(still, fmt.Sprintf("ID %d ", gone.ID)) {
		t.Fatalf("the deleted subvolume is gone from the disk too: %q", still)
	}
	listing := list(t, dir)
	for what, got := range map[string][]uint64{"all": ids(listing.All), "in the directory": ids(listing.InDirectory)} {
		if !slices.Equal(got, []uint64{stays.ID}) {
			t.Errorf("%s: %v, want %d alone", what, got, stays.ID)
		}
	}
}

func TestListReadsMoreThanOneAnswerOfTheKernelHolds(t *testing.T) {
	const count = 1500
	top := btrfstest.New(t, testSize).Dir
	home, folder := newSubvolume(t, top, "home"), newDir(t, top, "folder")
	var want []string
	for i := range count {
		name := fmt.Sprintf("%0*d", 4+i%32, i)
		check(t, btrfs.Snapshot(home, folder, name))
		want = append(want, name)
	}
	slices.Sort(want)
	listing := list(t, folder)
	if got := names(listing.InDirectory); !slices.Equal(got, want) {
		t.Errorf("%d names, the first is %q; want %d, the first %q", len(got), got[0], len(want), want[0])
	}
	seen := make(map[btrfs.UUID]bool)
	for _, s := range listing.InDirectory {
		seen[s.UUID] = true
		if !s.ReadOnly || s.ParentUUID != info(t, home).UUID || s.Created.IsZero() {
			t.Fatalf("incomplete: %+v", s)
		}
	}
	if len(seen) != count {
		t.Errorf("%d UUIDs, want %d", len(seen), count)
	}
}

func TestListNeedsBtrfs(t *testing.T) {
	if listing, err := btrfs.List(open(t, "/proc")); err == nil {
		t.Errorf("listed /proc: %+v", listing)
	}
}

func TestDeletedSubvolumesAreWaitedFor(t *testing.T) {
	top := btrfstest.New(t, testSize).Dir
	dir := open(t, top)
	for i := range 3 {
		name := fmt.Sprint("s", i)
		check(t, btrfs.Create(dir, name)) // what is open stays
		for j := range 500 {
			check(t, os.WriteFile(fmt.Sprintf("%s/%s/%d", top, name, j), []byte("some content"), 0o644))
		}
	}
	check(t, btrfs.SyncFilesystem(dir))
	for i := range 3 {
		check(t, btrfs.Delete(dir, fmt.Sprint("s", i)))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := btrfs.WaitDeleted(ended, dir); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	check(t, btrfs.WaitDeleted(t.Context(), dir))
	if left := btrfstest.Run(t, "btrfs", "subvolume", "list", "-d", top); left != "" {
		t.Errorf("not gone: %s", left)
	}
}
