package tree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

const content = 20_000 // bytes in each of the tests' large files

// writeLarge makes a file, below a directory, whose content depends on seed.
func writeLarge(t *testing.T, dir, path, seed string) {
	t.Helper()
	full := filepath.Join(dir, path)
	check(t, os.MkdirAll(filepath.Dir(full), 0o755))
	check(t, os.WriteFile(full, []byte(strings.Repeat(seed, content/len(seed)+1)[:content]), 0o644))
	check(t, os.Chtimes(full, time.Time{}, time.Unix(1e9, 5)))
}

// finishBackup makes a backup; fill puts files into its directory.
func finishBackup(t *testing.T, f *Folder, name, base string, dedup bool, fill func(dir string)) Record {
	t.Helper()
	w := mustBegin(t, f, Order{Name: name, Base: base, Source: "source"})
	fill(w.Path)
	r, err := f.Finish(t.Context(), Result{Name: name, Base: base, Source: "source", MaxDelete: 100, Dedup: dedup}, nil)
	check(t, err)
	return r
}

func mustIndex(t *testing.T, f *Folder) Indexed {
	t.Helper()
	var told int64
	indexed, err := f.Index(t.Context(), IndexOptions{Progress: func(bytes int64) { told += bytes }})
	check(t, err)
	if told != indexed.Read {
		t.Errorf("%d bytes were read, %d told of", indexed.Read, told)
	}
	return indexed
}

// shared tells how many bytes of a new backup, with one file of that content, need no space.
func shared(t *testing.T, f *Folder, seed string) int64 {
	t.Helper()
	const name = "20990101-000000"
	r := finishBackup(t, f, name, "", true, func(dir string) { writeLarge(t, dir, "a/new/name", seed) })
	_, err := f.Delete(t.Context(), []string{name})
	check(t, err)
	return r.Shared
}

func TestBackupsAreIndexedByTheirManifests(t *testing.T) {
	everywhere(t, func(t *testing.T, f *Folder) {
		finishBackup(t, f, "20260101-000000", "", false, func(dir string) {
			writeLarge(t, dir, "a", "first")
			writeLarge(t, dir, "b/c", "second")
			write(t, dir, "small")
			check(t, os.Symlink("a", filepath.Join(dir, "link")))
			check(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644))
		})
		var got Indexed
		unchanged(t, []string{f.pathOf("20260101-000000")}, func() { got = mustIndex(t, f) })
		if want := (Indexed{Trees: 1, Files: 4, Contents: 3}); got != want {
			t.Errorf("%+v instead of %+v", got, want)
		}
		for _, seed := range []string{"first", "second"} {
			if n := shared(t, f, seed); n != content {
				t.Errorf("%d bytes are shared", n)
			}
		}
	})
}

func TestAFileOfABackupThatWasChangedIsNotIndexed(t *testing.T) {
	f := newFolder(t, "ext4")
	finishBackup(t, f, "20260101-000000", "", false, func(dir string) {
		writeLarge(t, dir, "changed", "first")
		writeLarge(t, dir, "gone", "second")
	})
	check(t, os.Chtimes(f.pathOf("20260101-000000/changed"), time.Time{}, time.Unix(1e9, 6)))
	check(t, os.Remove(f.pathOf("20260101-000000/gone")))
	if got, want := mustIndex(t, f), (Indexed{Trees: 1, Files: 2}); got != want {
		t.Errorf("%+v instead of %+v", got, want)
	}
}

func TestAManifestIsNoProofOfWhatAFileHoldsNow(t *testing.T) {
	f := newFolder(t, "ext4")
	const backup = "20260101-000000"
	finishBackup(t, f, backup, "", false, func(dir string) { writeLarge(t, dir, "file", "first") })
	writeLarge(t, f.pathOf(backup), "file", "rot") // of the same size and time
	mustIndex(t, f)
	if n := shared(t, f, "first"); n != 0 {
		t.Errorf("%d bytes are shared with a file that is damaged", n)
	}
}

func TestTreesOfOtherProgramsAreIndexed(t *testing.T) {
	everywhere(t, func(t *testing.T, f *Folder) {
		dir := f.dir.Name()
		for _, tree := range []string{
			"2017-05-01-120000",   // rsync-time-backup
			"hourly.0/localhost",  // rsnapshot
			"photos/2016-01-07",   // PyHardLinkBackup
			"2017-05-01 12:00:00", // rsync-system-backup
			".hidden",
			"writable",
		} {
			if tree == "writable" && mustList(t, f).Btrfs {
				check(t, btrfs.Create(f.dir, tree))
			}
			writeLarge(t, dir, tree+"/file", tree)
		}
		write(t, dir, "notes.txt", "photos/2016-01-07/SHA256SUMS")
		check(t, os.Symlink("2017-05-01-120000", filepath.Join(dir, "latest")))
		check(t, os.Symlink("/etc", filepath.Join(dir, "photos/etc")))
		check(t, unix.Mkfifo(filepath.Join(dir, "photos/fifo"), 0o600))
		// The same file in the next backup, and the same content in another file.
		check(t, os.MkdirAll(filepath.Join(dir, "hourly.1"), 0o755))
		check(t, os.Link(filepath.Join(dir, "hourly.0/localhost/file"), filepath.Join(dir, "hourly.1/file")))
		writeLarge(t, dir, "hourly.1/copy", "photos/2016-01-07")
		names, err := readNames(f.dir, ".")
		check(t, err)

		var got Indexed
		unchanged(t, paths(f, names), func() { got = mustIndex(t, f) })
		want := Indexed{Trees: 6, Files: 8, Contents: 6, Read: 6*content + int64(len("content of photos/2016-01-07/SHA256SUMS"))}
		if mustList(t, f).Btrfs {
			want.Trees, want.Files, want.Contents, want.Read = want.Trees-1, want.Files-1, want.Contents-1, want.Read-content
		}
		if got != want {
			t.Errorf("%+v instead of %+v", got, want)
		}
		for _, tree := range []string{"2017-05-01-120000", "hourly.0/localhost", "photos/2016-01-07", "2017-05-01 12:00:00"} {
			if n := shared(t, f, tree); n != content {
				t.Errorf("%d bytes of %s are shared", n, tree)
			}
		}
		if n := shared(t, f, ".hidden"); n != 0 {
			t.Errorf("%d bytes of a hidden directory are shared", n)
		}
	})
}

func TestSnapshotsOfOthersAreReadOnce(t *testing.T) {
	f := newFolder(t, "btrfs")
	check(t, btrfs.Create(f.dir, "live"))
	live := btrfstest.Open(t, f.pathOf("live"))
	writeLarge(t, f.pathOf("live"), "file", "first")
	for _, name := range []string{"snapshot-1", "snapshot-2"} {
		check(t, btrfs.Snapshot(live, f.dir, name))
		writeLarge(t, f.pathOf("live"), name, name) // in the second only
	}
	want := Indexed{Trees: 2, Files: 3, Contents: 2, Read: 2 * content}
	if got := mustIndex(t, f); got != want {
		t.Errorf("%+v instead of %+v", got, want)
	}
	if n := shared(t, f, "first"); n != content {
		t.Errorf("%d bytes are shared", n)
	}
}

func TestNothingThatIsMountedInTheFolderIsIndexed(t *testing.T) {
	f := newFolder(t, "ext4")
	elsewhere := t.TempDir()
	writeLarge(t, elsewhere, "file", "first")
	for _, point := range []string{"mounted", "tree/mounted"} {
		check(t, os.MkdirAll(f.pathOf(point), 0o755))
		mount(t, elsewhere, f.pathOf(point))
	}
	if got, want := mustIndex(t, f), (Indexed{Trees: 1}); got != want {
		t.Errorf("%+v instead of %+v", got, want)
	}
}

func TestTheIndexIsReplacedAsAWhole(t *testing.T) {
	f := newFolder(t, "ext4")
	writeLarge(t, f.dir.Name(), "old/file", "first")
	mustIndex(t, f)
	index := filepath.Join(StateDir, "index")
	before, err := os.ReadFile(f.pathOf(index))
	check(t, err)
	writeLarge(t, f.dir.Name(), "old/more", "second")

	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	if _, err = f.Index(ctx, IndexOptions{Progress: func(int64) { cancel(reason) }}); !errors.Is(err, reason) {
		t.Errorf("%v instead of %v", err, reason)
	}
	after, err := os.ReadFile(f.pathOf(index))
	check(t, err)
	if !slices.Equal(before, after) {
		t.Error("the old index was changed")
	}
	expectState := func() {
		t.Helper()
		names, err := readNames(f.dir, StateDir)
		check(t, err)
		if want := []string{"index", state.Manifests}; !slices.Equal(names, want) {
			t.Errorf("the state is %q instead of %q", names, want)
		}
	}
	expectState()
	check(t, os.RemoveAll(f.pathOf("old")))
	if got := mustIndex(t, f); got != (Indexed{}) {
		t.Errorf("an index of nothing: %+v", got)
	}
	expectState()
	if n := shared(t, f, "first"); n != 0 {
		t.Errorf("%d bytes of a tree that is gone are shared", n)
	}
}
