package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// sharing are options that make contents shared.
func (r *copyRig) sharing(more ...string) []string {
	if r.kind == "btrfs" {
		return append(more, "--dedup")
	}
	return more
}

const (
	sharedFiles = 4
	sharedSize  = 4 << 20 // of each
	overhead    = 1 << 20 // what a backup takes for names, manifests and the index
)

// beforeSharing makes files of sharedSize bytes and a backup of them.
func (r *copyRig) beforeSharing() (first string) {
	r.Helper()
	for i := range sharedFiles {
		r.random(byte(i), sharedSize, fmt.Sprintf("photos/%d", i))
	}
	return r.saves(r.sharing()...)
}

func TestRenamedAndMovedFilesTakeNoNewSpace(t *testing.T) {
	t.Parallel()
	onEachKindOfSharing(t, func(r *copyRig) {
		first := r.beforeSharing()
		before := historyOf(r, first)
		btrfstest.Check(r, os.Rename(r.at("photos/0"), r.at("photos/renamed")))
		btrfstest.Check(r, os.Mkdir(r.at("albums"), 0o755))
		btrfstest.Check(r, os.Rename(r.at("photos/1"), r.at("albums/1")))
		r.takes(0, overhead, func() { r.saves(r.sharing()...) })
		r.equal(r.source, r.newest())
		btrfstest.Check(r, os.Rename(r.at("photos"), r.at("pictures")))
		r.takes(0, overhead, func() { r.saves(r.sharing()...) })
		r.equal(r.source, r.newest())
		before.unchanged(r, first)
	})
}

func TestAnotherSourceWithTheSameFilesTakesNoNewSpace(t *testing.T) {
	t.Parallel()
	onEachKindOfSharing(t, func(r *copyRig) {
		first := r.beforeSharing()
		before := historyOf(r, first)
		other := *r
		other.source = r.source + "-other"
		btrfstest.Run(r, "cp", "-a", r.at("photos"), other.source)
		var backup string
		r.takes(0, overhead, func() { backup = other.savesSeries("other-", r.sharing()...) })
		other.equal(other.source, backup)
		before.unchanged(r, first)
	})
}

// savesSeries makes the first backup of a series with a prefix.
func (r *copyRig) savesSeries(prefix string, options ...string) string {
	r.Helper()
	expect(r, exitDone, r.run(append(options, "--snapshot-prefix", prefix)...))
	found, err := filepath.Glob(filepath.Join(r.destination, prefix+"*"))
	btrfstest.Check(r, err)
	if len(found) != 1 {
		r.Fatalf("the backups are %v", found)
	}
	return found[0]
}

// Each change is one of a file that has another name now, so that its content is found by the index alone.
func TestFilesOfEqualContentKeepWhatElseIsTheirOwn(t *testing.T) {
	t.Parallel()
	differ := map[string]func(t testing.TB, path string){
		"mode":  func(t testing.TB, path string) { btrfstest.Check(t, os.Chmod(path, 0o600)) },
		"owner": func(t testing.TB, path string) { btrfstest.Check(t, os.Chown(path, 1234, 0)) },
		"group": func(t testing.TB, path string) { btrfstest.Check(t, os.Chown(path, 0, 1234)) },
		"time": func(t testing.TB, path string) {
			btrfstest.Check(t, os.Chtimes(path, time.Time{}, time.Unix(1_000_000_000, 1)))
		},
		"ACL": func(t testing.TB, path string) {
			btrfstest.Check(t, unix.Setxattr(path, "system.posix_acl_access", []byte(namedUser), 0))
		},
		"attribute": func(t testing.TB, path string) { btrfstest.Check(t, unix.Setxattr(path, "user.a", []byte("b"), 0)) },
	}
	onEachKindOfSharing(t, func(r *copyRig) {
		for i, name := range slices.Sorted(maps.Keys(differ)) {
			r.random(byte(i), sharedSize, name)
		}
		first := r.saves(r.sharing()...)
		before, reference := historyOf(r, first), r.reference()
		for name, change := range differ {
			btrfstest.Check(r, os.Rename(r.at(name), r.at("renamed "+name)))
			change(r, r.at("renamed "+name))
		}
		var least, most int64 = 0, overhead
		if r.kind == "ext4" { // which can only make links
			least = int64(len(differ)) * sharedSize
			most += least
		}
		r.takes(least, most, func() { r.saves(r.sharing()...) })
		r.equal(r.source, r.newest())
		before.unchanged(r, first)
		r.equal(reference, first)
	})
}

// A link within one backup would make two files of the source one when they are restored.
func TestCopiesWithinASourceStayTwoFiles(t *testing.T) {
	t.Parallel()
	onEachKindOfSharing(t, func(r *copyRig) {
		r.beforeSharing()
		copies := []string{"copy 1", "copy 2"}
		for _, name := range copies {
			btrfstest.Run(r, "cp", "-a", r.at("photos/0"), r.at(name))
		}
		var most int64 = overhead
		if r.kind == "ext4" {
			most += 2 * sharedSize
		}
		r.takes(0, most, func() { r.saves(r.sharing()...) })
		r.equal(r.source, r.newest())
		inodes := make(map[uint64]string)
		for _, name := range append(copies, "photos/0") {
			inode := inode(r, filepath.Join(r.newest(), name))
			if other, same := inodes[inode]; same {
				r.Errorf("%s and %s are one file", name, other)
			}
			inodes[inode] = name
		}
	})
}

func TestWithoutDedupEqualContentsAreStoredAgain(t *testing.T) {
	t.Parallel()
	onEachKindOfSharing(t, func(r *copyRig) {
		r.beforeSharing()
		btrfstest.Check(r, os.Rename(r.at("photos"), r.at("pictures")))
		r.takes(sharedFiles*sharedSize, sharedFiles*sharedSize+overhead, func() { r.saves("--no-dedup") })
		r.equal(r.source, r.newest())
	})
}

func TestADamagedBackupDoesNotSpread(t *testing.T) {
	t.Parallel()
	onEachKindOfSharing(t, func(r *copyRig) {
		first := r.beforeSharing()
		r.rot(first, "photos/0")
		btrfstest.Check(r, os.Rename(r.at("photos/0"), r.at("photos/renamed")))
		expect(r, exitDone, r.run(r.sharing()...), filepath.Join(first, "photos/0"), "is damaged")
		r.equal(r.source, r.newest())
		expect(r, exitDone, invoke(r, nil, "verify", r.newest()))
		expect(r, exitDiffer, invoke(r, nil, "verify", first), "content")
	})
}

// rot changes a byte of a file in a backup, as a disk may do.
func (r *copyRig) rot(backup, file string) {
	r.Helper()
	path := filepath.Join(backup, file)
	info, err := os.Stat(path)
	btrfstest.Check(r, err)
	content, err := os.ReadFile(path)
	btrfstest.Check(r, err)
	r.writable(backup, func() {
		r.edit(path, os.O_WRONLY, string([]byte{content[0] ^ 1}))
		btrfstest.Check(r, os.Chtimes(path, info.ModTime(), info.ModTime()))
	})
}

// layouts tell how other programs lay out backups: where they keep the tree of a source, and what else they leave there.
var layouts = map[string]struct {
	tree  string
	files []string
	links map[string]string
}{
	"rsync-time-backup":   {"2017-05-01-101010", []string{"backup.marker"}, map[string]string{"latest": "2017-05-01-101010"}},
	"rsnapshot":           {"hourly.0/localhost/home", []string{"rsnapshot.log"}, nil},
	"rsync-system-backup": {"2017-05-01 10:10:10", nil, map[string]string{"latest": "2017-05-01 10:10:10"}},
	"PyHardLinkBackup": {"home/2016-01-07-085247", []string{"home/2016-01-07-085247/SHA256SUMS", "home/2016-01-07-085247-summary.txt"},
		nil},
	"by hand": {"20170501-101010", nil, nil},
}

func TestTreesOfOtherProgramsAreMadeUseOfAndStay(t *testing.T) {
	t.Parallel()
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			onKinds(t, func(t *testing.T, kind string) {
				if kind != "xfs" && name != "rsnapshot" {
					btrfstest.OnlyInAll(t)
				}
				r := newCopyRig(t, kind)
				for i := range sharedFiles {
					r.random(byte(i), sharedSize, fmt.Sprintf("photos/%d", i))
				}
				root := filepath.Join(r.destination, layout.tree)
				btrfstest.Check(r, os.MkdirAll(root, 0o755))
				btrfstest.Run(r, "cp", "-a", r.at("photos"), root)
				for _, file := range layout.files {
					btrfstest.Check(r, os.WriteFile(filepath.Join(r.destination, file), []byte(file), 0o644))
				}
				for link, target := range layout.links {
					btrfstest.Check(r, os.Symlink(target, filepath.Join(r.destination, link)))
				}
				before := historyOf(r, r.destination)
				reference := r.reference()
				expect(r, exitDone, invoke(r, nil, "index", r.destination), "16 MiB read")
				r.takes(0, overhead, func() { expect(r, exitDone, r.run(r.sharing("--engine", "rsync", "-n", "1")...)) })
				r.equal(r.source, r.newest())
				r.write("new", "file")
				expect(r, exitDone, r.run(r.sharing("-n", "1")...))
				r.equal(filepath.Join(reference, "photos"), filepath.Join(root, "photos"))
				before.remains(r)
			})
		})
	}
}

// remains fails the test unless all files are there and as they were.
func (h history) remains(t testing.TB) {
	t.Helper()
	for path, was := range h {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR { // the folder itself changes
			continue
		}
		if now := describeFile(t, path); now != was {
			t.Errorf("%s was %s, and is %s", path, was, now)
		}
	}
}
