package index_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

var check = btrfstest.Check

const imageSize = 320 << 20

// A folder of backups that are indexed.
type folder struct {
	*tree.Folder
	dir *os.File
}

func (f folder) pathOf(name string) string { return filepath.Join(f.dir.Name(), name) }

// newFolder makes a folder on a filesystem of its own.
func newFolder(t *testing.T, kind string) folder {
	t.Helper()
	var disk *btrfstest.FS
	if kind == "btrfs" {
		disk = btrfstest.New(t, imageSize)
	} else {
		disk = btrfstest.NewOther(t, kind, imageSize)
	}
	path := filepath.Join(disk.Dir, "folder")
	check(t, os.Mkdir(path, 0o755))
	dir := btrfstest.Open(t, path)
	return folder{tree.New(dir, slog.New(slog.DiscardHandler)), dir}
}

// everywhere runs a test on each kind of filesystem, in a new folder.
func everywhere(t *testing.T, test func(t *testing.T, f folder)) {
	for _, kind := range []string{"btrfs", "ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { test(t, newFolder(t, kind)) })
	}
}

// onBtrfs tells whether backups are subvolumes.
func (f folder) onBtrfs(t *testing.T) bool {
	t.Helper()
	l, err := f.List(t.Context())
	check(t, err)
	return l.Btrfs
}

// write makes files below a directory, and the directories above them.
func write(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		full := filepath.Join(dir, path)
		check(t, os.MkdirAll(filepath.Dir(full), 0o755))
		check(t, os.WriteFile(full, []byte("content of "+path), 0o644))
	}
}

// unchanged fails the test if do changes anything in a directory of the folder.
func (f folder) unchanged(t *testing.T, name string, do func()) {
	t.Helper()
	before := filepath.Join(t.TempDir(), "before")
	btrfstest.Run(t, "cp", "-a", f.pathOf(name), before)
	do()
	btrfstest.Equal(t, before, f.pathOf(name), tree.StateDir)
}

// stateFiles gives the names in the state directory.
func (f folder) stateFiles(t *testing.T) (names []string) {
	t.Helper()
	found, err := os.ReadDir(f.pathOf(tree.StateDir))
	check(t, err)
	for _, file := range found {
		names = append(names, file.Name())
	}
	return names
}

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
func finishBackup(t *testing.T, f folder, name, base string, dedup bool, fill func(dir string)) tree.Record {
	t.Helper()
	w, err := f.Begin(t.Context(), tree.Order{Name: name, Base: base, Origin: tree.Origin{Source: "source"}})
	check(t, err)
	fill(w.Path)
	r, err := f.Finish(t.Context(), tree.Result{Name: name, Base: base, Origin: tree.Origin{Source: "source"}, MaxDelete: 100, Dedup: dedup}, nil)
	check(t, err)
	return r
}

func mustIndex(t *testing.T, f folder) tree.Indexed {
	t.Helper()
	var told int64
	indexed, err := f.Index(t.Context(), tree.IndexOptions{Progress: func(bytes int64) { told += bytes }})
	check(t, err)
	if told != indexed.Read {
		t.Errorf("%d bytes were read, %d told of", indexed.Read, told)
	}
	return indexed
}

// shared tells how many bytes of a new backup, with one file of that content, need no space.
func shared(t *testing.T, f folder, seed string) int64 {
	t.Helper()
	const name = "20990101-000000"
	r := finishBackup(t, f, name, "", true, func(dir string) { writeLarge(t, dir, "a/new/name", seed) })
	_, err := f.Delete(t.Context(), []string{name})
	check(t, err)
	return r.Shared
}

func TestBackupsAreIndexedByTheirManifests(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f folder) {
		finishBackup(t, f, "20260101-000000", "", false, func(dir string) {
			writeLarge(t, dir, "a", "first")
			writeLarge(t, dir, "b/c", "second")
			write(t, dir, "small")
			check(t, os.Symlink("a", filepath.Join(dir, "link")))
			check(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644))
		})
		var got tree.Indexed
		f.unchanged(t, "20260101-000000", func() { got = mustIndex(t, f) })
		if want := (tree.Indexed{Trees: 1, Files: 4, Contents: 3}); got != want {
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
	t.Parallel()
	f := newFolder(t, "ext4")
	finishBackup(t, f, "20260101-000000", "", false, func(dir string) {
		writeLarge(t, dir, "changed", "first")
		writeLarge(t, dir, "gone", "second")
	})
	check(t, os.Chtimes(f.pathOf("20260101-000000/changed"), time.Time{}, time.Unix(1e9, 6)))
	check(t, os.Remove(f.pathOf("20260101-000000/gone")))
	if got, want := mustIndex(t, f), (tree.Indexed{Trees: 1, Files: 2}); got != want {
		t.Errorf("%+v instead of %+v", got, want)
	}
}

func TestAManifestIsNoProofOfWhatAFileHoldsNow(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	everywhere(t, func(t *testing.T, f folder) {
		dir := f.dir.Name()
		for _, name := range []string{
			"2017-05-01-120000",   // rsync-time-backup
			"hourly.0/localhost",  // rsnapshot
			"photos/2016-01-07",   // PyHardLinkBackup
			"2017-05-01 12:00:00", // rsync-system-backup
			".hidden",
			"writable",
		} {
			if name == "writable" && f.onBtrfs(t) {
				check(t, btrfs.Create(f.dir, name))
			}
			writeLarge(t, dir, name+"/file", name)
		}
		write(t, dir, "notes.txt", "photos/2016-01-07/SHA256SUMS")
		check(t, os.Symlink("2017-05-01-120000", filepath.Join(dir, "latest")))
		check(t, os.Symlink("/etc", filepath.Join(dir, "photos/etc")))
		check(t, unix.Mkfifo(filepath.Join(dir, "photos/fifo"), 0o600))
		// The same file in the next backup, and the same content in another file.
		check(t, os.MkdirAll(filepath.Join(dir, "hourly.1"), 0o755))
		check(t, os.Link(filepath.Join(dir, "hourly.0/localhost/file"), filepath.Join(dir, "hourly.1/file")))
		writeLarge(t, dir, "hourly.1/copy", "photos/2016-01-07")

		var got tree.Indexed
		_, err := f.Mark(t.Context()) // which makes the state directory
		check(t, err)
		f.unchanged(t, ".", func() { got = mustIndex(t, f) })
		want := tree.Indexed{Trees: 6, Files: 8, Contents: 6, Read: 6*content + int64(len("content of photos/2016-01-07/SHA256SUMS"))}
		if f.onBtrfs(t) {
			want.Trees, want.Files, want.Contents, want.Read = want.Trees-1, want.Files-1, want.Contents-1, want.Read-content
		}
		if got != want {
			t.Errorf("%+v instead of %+v", got, want)
		}
		for _, name := range []string{"2017-05-01-120000", "hourly.0/localhost", "photos/2016-01-07", "2017-05-01 12:00:00"} {
			if n := shared(t, f, name); n != content {
				t.Errorf("%d bytes of %s are shared", n, name)
			}
		}
		if n := shared(t, f, ".hidden"); n != 0 {
			t.Errorf("%d bytes of a hidden directory are shared", n)
		}
	})
}

func TestSnapshotsOfOthersAreReadOnce(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	check(t, btrfs.Create(f.dir, "live"))
	live := btrfstest.Open(t, f.pathOf("live"))
	writeLarge(t, f.pathOf("live"), "file", "first")
	for _, name := range []string{"snapshot-1", "snapshot-2"} {
		check(t, btrfs.Snapshot(live, f.dir, name))
		writeLarge(t, f.pathOf("live"), name, name) // in the second only
	}
	want := tree.Indexed{Trees: 2, Files: 3, Contents: 2, Read: 2 * content}
	if got := mustIndex(t, f); got != want {
		t.Errorf("%+v instead of %+v", got, want)
	}
	if n := shared(t, f, "first"); n != content {
		t.Errorf("%d bytes are shared", n)
	}
}

func TestNothingThatIsMountedInTheFolderIsIndexed(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	elsewhere := t.TempDir()
	writeLarge(t, elsewhere, "file", "first")
	for _, point := range []string{"mounted", "tree/mounted"} {
		check(t, os.MkdirAll(f.pathOf(point), 0o755))
		check(t, unix.Mount(elsewhere, f.pathOf(point), "", unix.MS_BIND, ""))
		t.Cleanup(func() { btrfstest.Unmount(t, f.pathOf(point)) })
	}
	if got, want := mustIndex(t, f), (tree.Indexed{Trees: 1}); got != want {
		t.Errorf("%+v instead of %+v", got, want)
	}
}

func TestTheIndexIsReplacedAsAWhole(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	writeLarge(t, f.dir.Name(), "old/file", "first")
	mustIndex(t, f)
	index := filepath.Join(tree.StateDir, "index")
	before, err := os.ReadFile(f.pathOf(index))
	check(t, err)
	writeLarge(t, f.dir.Name(), "old/more", "second")

	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	if _, err = f.Index(ctx, tree.IndexOptions{Progress: func(int64) { cancel(reason) }}); !errors.Is(err, reason) {
		t.Errorf("%v instead of %v", err, reason)
	}
	after, err := os.ReadFile(f.pathOf(index))
	check(t, err)
	if !slices.Equal(before, after) {
		t.Error("the old index was changed")
	}
	expectState := func() {
		t.Helper()
		if names, want := f.stateFiles(t), []string{"index", "manifests"}; !slices.Equal(names, want) {
			t.Errorf("the state is %q instead of %q", names, want)
		}
	}
	expectState()
	check(t, os.RemoveAll(f.pathOf("old")))
	if got := mustIndex(t, f); got != (tree.Indexed{}) {
		t.Errorf("an index of nothing: %+v", got)
	}
	expectState()
	if n := shared(t, f, "first"); n != 0 {
		t.Errorf("%d bytes of a tree that is gone are shared", n)
	}
}
