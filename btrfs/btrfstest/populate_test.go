package btrfstest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPopulateIsDeterministic(t *testing.T) {
	dir := New(t, testSize).Dir
	for i, seed := range []int64{1, 1, -7} {
		subdir := fmt.Sprintf("%s/%d", dir, i)
		if err := os.Mkdir(subdir, 0o755); err != nil {
			t.Fatal(err)
		}
		Populate(t, subdir, seed)
	}
	Equal(t, dir+"/0", dir+"/1")
	if diffs, err := Diff(dir+"/0", dir+"/2"); err != nil || len(diffs) == 0 {
		t.Errorf("two seeds differ in %q, %v", diffs, err)
	}
}

func TestPopulateMakesEveryType(t *testing.T) {
	tr := populated(t)
	found := make(map[string]bool)
	side := newSide(tr.root, nil)
	var visit func(string)
	visit = func(path string) {
		e, err := side.read(path)
		tr.check(err)
		found[e.fileType] = true
		for fact := range e.facts {
			found[fact] = true
		}
		if e.fileType != directory {
			return
		}
		names, err := side.names(path)
		tr.check(err)
		for _, name := range names {
			visit(filepath.Join(path, name))
		}
	}
	visit(".")
	for _, fileType := range fileTypes {
		if !found[fileType] {
			t.Errorf("no %s", fileType)
		}
	}
	for _, fact := range []string{"hard link", `xattr "` + aclAccess + `"`, `xattr "` + aclDefault + `"`, `xattr "` + capability + `"`} {
		if !found[fact] {
			t.Errorf("no %s", fact)
		}
	}
}

func TestPopulateMakesSpecialExtents(t *testing.T) {
	tr := populated(t)
	Run(t, "sync", "--file-system", tr.root)
	for name, check := range map[string]func(size, allocated int64) bool{
		"sparse":                  func(size, allocated int64) bool { return allocated < size/10 },
		"hole-only":               func(size, allocated int64) bool { return size > 0 && allocated == 0 },
		"preallocated":            func(size, allocated int64) bool { return allocated == size },
		"preallocated-beyond-end": func(size, allocated int64) bool { return allocated > 10*size },
	} {
		var st unix.Stat_t
		tr.check(unix.Stat(tr.path("extents/"+name), &st))
		if allocated := st.Blocks * 512; !check(st.Size, allocated) {
			t.Errorf("%s has %d bytes, %d of them allocated", name, st.Size, allocated)
		}
	}
}

// The source of a mirror is not a btrfs, and its user not always root.
func TestChangeWorksElsewhere(t *testing.T) {
	dir := t.TempDir()
	Populate(t, dir, 1)
	Change(t, dir, 1)
}

func TestSmallFiles(t *testing.T) {
	dir := t.TempDir()
	SmallFiles(t, dir, 201, 1)
	for pattern, want := range map[string]int{"*": 3, "*/*": 201, "0002/*": 1} {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(found) != want {
			t.Errorf("%d names match %s, want %d, %v", len(found), pattern, want, err)
		}
	}
}

func TestSentAndReceivedTreesAreEqual(t *testing.T) {
	for _, seed := range []int64{1, 2, 3} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := New(t, testSize).Dir
			source := dir + "/source"
			Run(t, "btrfs", "subvolume", "create", source)
			Run(t, "mkdir", dir+"/received")
			Populate(t, source, seed)

			previous := replicate(t, dir, "full")
			for day := range int64(5) {
				Change(t, source, 100*seed+day)
				next := replicate(t, dir, fmt.Sprint(day), "-p", previous)
				if diffs, err := Diff(previous, next); err != nil || len(diffs) < 20 {
					t.Errorf("a day changed only %q, %v", diffs, err)
				}
				previous = next
			}
		})
	}
}

// replicate takes a snapshot of dir/source, sends it to dir/received, compares
// all three and returns the path of the snapshot.
func replicate(t *testing.T, dir, name string, parent ...string) string {
	t.Helper()
	snapshot := filepath.Join(dir, name)
	Run(t, "btrfs", "subvolume", "snapshot", "-r", dir+"/source", snapshot)
	stream := filepath.Join(t.TempDir(), "stream")
	Run(t, append([]string{"btrfs", "send", "-q", "-f", stream, snapshot}, parent...)...)
	Run(t, "btrfs", "receive", "-q", "-f", stream, dir+"/received")
	Equal(t, dir+"/source", snapshot)
	Equal(t, snapshot, filepath.Join(dir, "received", name), RootTime)
	return snapshot
}
