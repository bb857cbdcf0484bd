package dedup

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// used tells how many bytes of the filesystem are in use, with all data on disk.
func (f *fixture) used() int64 {
	f.t.Helper()
	check(f.t, unix.Syncfs(int(f.folder.Fd())))
	var st unix.Statfs_t
	check(f.t, unix.Fstatfs(int(f.folder.Fd()), &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

func TestExtentsAreSharedByFilesWithMetadataOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, filesystem := range []string{"btrfs", "xfs"} {
		t.Run(filesystem, func(t *testing.T) {
			f := newFixture(t, filesystem)
			if filesystem == "btrfs" {
				btrfstest.Run(t, "btrfs", "subvolume", "create", filepath.Join(f.dir, "old"))
				btrfstest.Run(t, "btrfs", "subvolume", "create", filepath.Join(f.dir, hidden))
			}
			const size = 40<<20 + 4711
			content := random(size, 1)
			f.known("old", "file", content)
			old := f.stat("old", "file")
			if filesystem == "btrfs" {
				btrfstest.Run(t, "btrfs", "property", "set", filepath.Join(f.dir, "old"), "ro", "true")
			}
			f.write(hidden, "other", content)
			full := filepath.Join(f.dir, hidden, "other")
			check(t, os.Chmod(full, 0o400))
			check(t, os.Chtimes(full, time.Time{}, time.Unix(9e8, 1)))
			e := f.entry(hidden, "other")
			before := f.used()
			after, shared := f.shareOnce(e)
			if shared != size || after != e {
				t.Errorf("%d bytes are shared, and the entry is %+v instead of %+v", shared, after, e)
			}
			if freed := before - f.used(); freed < size*9/10 {
				t.Errorf("%d bytes were freed", freed)
			}
			f.expectUnlinked(e, content)
			if now := f.stat("old", "file"); now.Ctim != old.Ctim || now.Mtim != old.Mtim || now.Nlink != 1 {
				t.Errorf("the older file is %+v instead of %+v", now, old)
			}
			f.expectNoWarning()
		})
	}
}

func TestTwoFilesOfTheBackupShareExtents(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "xfs")
	content := random(large, 1)
	a, b := f.write(hidden, "a", content), f.write(hidden, "b", content)
	f.with(func(x *Index) {
		f.share(x, a)
		check(t, x.Add(newBackup, a))
		if _, shared := f.share(x, b); shared != large {
			t.Errorf("%d bytes are shared", shared)
		}
	})
	f.expectUnlinked(b, content)
}

func TestAFileSharesNothingWithItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "xfs")
	content := random(large, 1)
	f.known("old", "file", content)
	check(t, os.Mkdir(filepath.Join(f.dir, hidden), 0o755))
	check(t, os.Link(filepath.Join(f.dir, "old/file"), filepath.Join(f.dir, hidden, "file")))
	same, other := f.entry(hidden, "file"), f.write(hidden, "other", content)
	f.with(func(x *Index) {
		if _, shared := f.share(x, same); shared != 0 {
			t.Errorf("%d bytes are shared", shared)
		}
		if _, shared := f.share(x, other); shared != large {
			t.Errorf("%d bytes of another file are shared", shared)
		}
	})
	f.expectUnlinked(other, content)
}

func TestTheFirstAttemptDecidesWhetherTheFilesystemSharesExtents(t *testing.T) {
	t.Parallel()
	for filesystem, want := range map[string]sharing{"btrfs": byExtents, "xfs": byExtents, "ext4": byLinks} {
		f := newFixture(t, filesystem)
		content := random(large, 1)
		f.known("old", "file", content)
		e := f.write(hidden, "file", content)
		f.with(func(x *Index) {
			f.share(x, e)
			if x.sharing != want {
				t.Errorf("%s: %d instead of %d", filesystem, x.sharing, want)
			}
		})
	}
}

func TestTheKernelComparesContents(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "xfs")
	content := random(large, 1)
	f.known("old", "file", content)
	f.rot("old", "file")
	e := f.write(hidden, "file", content)
	if _, shared := f.shareOnce(e); shared != 0 {
		t.Errorf("%d bytes are shared", shared)
	}
	f.expectUnlinked(e, content)
	f.expectWarning("old/file is damaged")
}

func TestWhatOneFileCannotShareDoesNotDecideForTheFolder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "btrfs")
	odd, content := random(large, 1), random(large, 2)
	check(t, os.Mkdir(filepath.Join(f.dir, "old"), 0o755))
	file, err := os.Create(filepath.Join(f.dir, "old", "odd"))
	check(t, err)
	btrfstest.Run(t, "chattr", "+C", file.Name()) // no checksums: nothing is shared with files that have them
	check(t, file.Close())
	f.known("old", "odd", odd)
	f.known("old", "file", content)
	first, second := f.write(hidden, "odd", odd), f.write(hidden, "file", content)
	f.with(func(x *Index) {
		if _, shared := f.share(x, first); shared != 0 {
			t.Errorf("%d bytes of the odd file are shared", shared)
		}
		if _, shared := f.share(x, second); shared != large {
			t.Errorf("%d bytes of the other file are shared", shared)
		}
	})
	f.expectUnlinked(first, odd)
	f.expectNoWarning()
}

func TestSmallFilesAreNoTrouble(t *testing.T) {
	t.Parallel()
	for _, filesystem := range []string{"btrfs", "xfs", "ext4"} {
		t.Run(filesystem, func(t *testing.T) {
			f := newFixture(t, filesystem)
			for _, size := range []int{0, 1, 2048, 2049, 4096, 5000} {
				content := bytes.Repeat([]byte{byte(size)}, size)
				f.known("old", "file", content)
				e := f.write(hidden, "file", content)
				_, shared := f.shareOnce(e)
				want := int64(size)
				if filesystem == "btrfs" && size <= 2048 {
					want = 0
				}
				if shared != want {
					t.Errorf("%d of %d bytes are shared", shared, size)
				}
				f.expectContent(e, content)
				if size == 0 { // there is nothing to gain
					f.expectUnlinked(e, content)
				}
				check(t, os.RemoveAll(filepath.Join(f.dir, hidden)))
			}
			f.expectNoWarning()
		})
	}
}
