package walk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

var check = btrfstest.Check

// write makes files below a directory, and the directories above them.
func write(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		full := filepath.Join(dir, path)
		check(t, os.MkdirAll(filepath.Dir(full), 0o755))
		check(t, os.WriteFile(full, []byte("content of "+path), 0o644))
	}
}

// walked tells what a walk visits, and of which directory it tells that it is closed.
func walked(t *testing.T, dir string) (visited, closed []string) {
	t.Helper()
	check(t, Tree(t.Context(), btrfstest.Open(t, dir), Visitor{
		Visit: func(f File) error {
			visited = append(visited, f.Path)
			return nil
		},
		Closed: func(path string, err error) error {
			closed = append(closed, fmt.Sprintf("%s: %v", path, err))
			return nil
		},
	}))
	return visited, closed
}

func TestATreeIsWalkedInTheOrderOfAManifest(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside, "file")
	write(t, dir, "a/b/c", "a/d", "a-b", "a.b/c", "z")
	check(t, os.Symlink(outside, dir+"/link"))
	visited, closed := walked(t, dir)
	if want := []string{".", "a", "a/b", "a/b/c", "a/d", "a-b", "a.b", "a.b/c", "link", "z"}; !slices.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(visited))) {
		t.Errorf("visited %q, want %q", visited, want)
	}
	if !slices.IsSortedFunc(visited, manifest.Compare) || len(closed) > 0 {
		t.Errorf("visited %q, closed %q", visited, closed)
	}
}

func TestWhatIsMountedInATreeAndSubvolumesAreToldAndNotEntered(t *testing.T) {
	t.Parallel()
	dir := btrfstest.New(t, 320<<20).Dir
	write(t, dir, "mounted/file", "other/file")
	check(t, unix.Mount(dir+"/other", dir+"/mounted", "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(dir+"/mounted", 0) })
	check(t, btrfs.Create(btrfstest.Open(t, dir), "subvolume"))
	write(t, dir, "subvolume/file")
	visited, closed := walked(t, dir)
	if want := []string{".", "mounted", "other", "other/file", "subvolume"}; !slices.Equal(visited, want) {
		t.Errorf("visited %q, want %q", visited, want)
	}
	if want := []string{"mounted: invalid cross-device link", "subvolume: invalid cross-device link"}; !slices.Equal(closed, want) {
		t.Errorf("closed %q, want %q", closed, want)
	}
}

func TestAFileThatIsReplacedByALinkIsNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "file")
	d, err := OpenDir(btrfstest.Open(t, dir))
	check(t, err)
	defer d.Release()
	f, err := d.File("file", "file")
	check(t, err)
	check(t, os.Remove(dir+"/file"))
	check(t, os.Symlink("/etc/hostname", dir+"/file"))
	if _, err := f.Hash(t.Context(), make([]byte, ReadSize), manifest.Watcher{}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("the error is %v", err)
	}
}

// A subvolume within a directory is not of it, whoever made it there.
func TestNothingIsRemovedInASubvolumeWithinADirectory(t *testing.T) {
	t.Parallel()
	top := btrfstest.New(t, 320<<20).Dir
	folder := btrfstest.Open(t, top)
	write(t, top, "directory/file")
	check(t, btrfs.Create(btrfstest.Open(t, top+"/directory"), "inner"))
	write(t, top, "directory/inner/file")
	check(t, os.Link(top+"/directory/inner/file", top+"/directory/inner/second"))
	if err := Unshare(t.Context(), folder, "directory", false); err == nil {
		t.Error("unsharing looked into it")
	}
	if err := Remove(t.Context(), folder, "directory"); err == nil {
		t.Error("it was removed")
	}
	for _, name := range []string{"file", "second"} {
		if content, err := os.ReadFile(top + "/directory/inner/" + name); string(content) != "content of directory/inner/file" {
			t.Errorf("%s is %q, %v", name, content, err)
		}
	}
}

func TestRemovingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "directory/file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Remove(ctx, btrfstest.Open(t, dir), "directory"); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Lstat(dir + "/directory/file"); err != nil {
		t.Error(err)
	}
}

func TestAnErrorOfALinkShowsNoDescriptor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "file")
	check(t, os.Symlink("target", filepath.Join(dir, "link")))
	check(t, Tree(t.Context(), btrfstest.Open(t, dir), Visitor{Visit: func(f File) error {
		target, err := f.Target()
		if f.Name == "link" && target != "target" || f.Name == "file" && (err == nil || err.Error() != "readlink: invalid argument") {
			t.Errorf("%s: %q, %v", f.Name, target, err)
		}
		return nil
	}}))
}
