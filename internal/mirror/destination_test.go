package mirror

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"

	"golang.org/x/sys/unix"
)

const imageSize = 320 << 20

// everywhere runs a test with a folder on each kind of filesystem, and a source on a btrfs, which can hold anything.
func everywhere(t *testing.T, test func(t *testing.T, source string, f *Destination)) {
	for _, kind := range []string{"btrfs", "ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "xfs" { // which is like ext4 where nothing is shared
				btrfstest.OnlyInAll(t)
			}
			var disk *btrfstest.FS
			if kind == "btrfs" {
				disk = btrfstest.New(t, imageSize)
			} else {
				disk = btrfstest.NewOther(t, kind, imageSize)
			}
			from := btrfstest.New(t, imageSize)
			source := filepath.Join(from.Dir, "source")
			check(t, os.Mkdir(source, 0o755))
			s := NewSource(here(), source, SourceOptions{Log: quiet()})
			test(t, source, NewDestination(here(), filepath.Join(disk.Dir, "folder"), s, Options{Log: quiet(), MaxDelete: 100}))
		})
	}
}

// copyOf keeps what a tree is like now, as tar remembers it.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	btrfstest.Run(t, "cp", "-a", "--", dir, to)
	return filepath.Join(to, filepath.Base(dir))
}

func TestEachBackupIsTheSourceAsItWasThen(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, source string, f *Destination) {
		btrfstest.Populate(t, source, 1)
		var was []string
		for i, name := range []string{"20260101-000000", "20260102-000000", "20260103-000000"} {
			if i > 0 {
				btrfstest.Change(t, source, int64(i))
			}
			mustBackUp(t, f, name)
			was = append(was, copyOf(t, source))
		}
		for i, name := range names(t, f) {
			mustEqual(t, was[i], filepath.Join(f.path, name))
		}
		if got := len(names(t, f)); got != 3 {
			t.Errorf("there are %d backups", got)
		}
	})
}

// mustEqual compares all but the attributes in which xfs shows ACLs a second time.
func mustEqual(t *testing.T, want, got string) {
	t.Helper()
	differences, err := btrfstest.Diff(want, got)
	check(t, err)
	for _, d := range differences {
		if !strings.Contains(d, `xattr "trusted.SGI_ACL_`) {
			t.Errorf("%s is not a copy of %s: %.300s", got, want, d)
		}
	}
}

func TestCapabilitiesStayWhereNothingElseButTheOwnerChanges(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, source string, f *Destination) {
		names := []string{"owner", "mode", "line\nfeed \\#101 \xff", "deep/er/time"}
		set := func() { // a new owner takes them away
			for _, name := range names {
				check(t, unix.Setxattr(filepath.Join(source, name), "security.capability", capability, 0))
			}
		}
		write(t, source, names...)
		write(t, source, "without")
		set()
		mustBackUp(t, f, "20260101-000000")
		before := history(t, filepath.Join(f.path, "20260101-000000"))
		check(t, os.Chown(filepath.Join(source, names[0]), 1234, 1234))
		check(t, os.Chmod(filepath.Join(source, names[1]), 0o700))
		check(t, os.Chown(filepath.Join(source, names[2]), 1234, 1234))
		check(t, os.Chtimes(filepath.Join(source, names[3]), time.Unix(1, 0), time.Unix(1, 0)))
		check(t, os.Chown(filepath.Join(source, "without"), 1234, 1234))
		set()
		mustBackUp(t, f, "20260102-000000")
		mustEqual(t, source, filepath.Join(f.path, "20260102-000000"))
		if history(t, filepath.Join(f.path, "20260101-000000")) != before {
			t.Error("the older backup changed")
		}
	})
}

// capability lets a program bind to ports below 1024 (linux/capability.h: struct vfs_cap_data).
var capability = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// history is what a backup is like, with the inodes of its files.
func history(t *testing.T, backup string) string {
	t.Helper()
	return btrfstest.Run(t, "sh", "-c", `cd "$1" && find . -printf '%p %i %m %U %G %s %T@ %l\n' | sort &&
		getfacl -nR . && getfattr -Rhd -m - . && find . -type f -print0 | sort -z | xargs -0 sha256sum`, "sh", backup)
}

func TestNoChangeOfTheSourceChangesAnOlderBackup(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, source string, f *Destination) {
		files := []string{"mode", "owner", "acl", "attribute", "time", "content", "renamed", "deleted", "linked/a"}
		write(t, source, files...)
		in := func(name string) string { return filepath.Join(source, name) }
		check(t, os.Link(in("linked/a"), in("linked/b")))
		mustBackUp(t, f, "a")
		before := history(t, filepath.Join(f.path, "a"))

		check(t, os.Chmod(in("mode"), 0o600))
		check(t, os.Chown(in("owner"), 1234, 5678))
		btrfstest.Run(t, "setfacl", "-m", "u:4321:rw", in("acl"))
		check(t, unix.Setxattr(in("attribute"), "user.new", []byte("value"), 0))
		check(t, os.Chtimes(in("time"), time.Unix(1, 1), time.Unix(1, 1)))
		check(t, os.WriteFile(in("content"), []byte("CONTENT"), 0o644))
		check(t, os.Rename(in("renamed"), in("other name")))
		check(t, os.Remove(in("deleted")))
		check(t, os.Remove(in("linked/b")))
		write(t, source, "linked/b")
		mustBackUp(t, f, "b")

		if after := history(t, filepath.Join(f.path, "a")); after != before {
			t.Errorf("the first backup was\n%s\nand is\n%s", before, after)
		}
		mustEqual(t, source, filepath.Join(f.path, "b"))
	})
}

func TestAChangeWithinASecondIsSeen(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, source string, f *Destination) {
		write(t, source, "file")
		file := filepath.Join(source, "file")
		check(t, os.Chtimes(file, time.Unix(1e9, 1), time.Unix(1e9, 1)))
		mustBackUp(t, f, "a")
		check(t, os.WriteFile(file, []byte("ELIF"), 0o644))
		check(t, os.Chtimes(file, time.Unix(1e9, 2), time.Unix(1e9, 2)))
		mustBackUp(t, f, "b")
		mustEqual(t, source, filepath.Join(f.path, "b"))
	})
}

func TestAnInterruptedCopyIsResumed(t *testing.T) {
	everywhere(t, func(t *testing.T, source string, f *Destination) {
		write(t, source, "a", "b")
		mustBackUp(t, f, "1")
		write(t, source, "c", "d")
		t.Run("", func(t *testing.T) {
			rsyncIs(t, `case "$*" in *--stats*) "$real" --exclude=/d "$@"; exit 12;; *) exec "$real" "$@";; esac`)
			_, err := backUp(t.Context(), f, "2")
			if hint := mustRefuse(t, err, "status 12"); !strings.Contains(hint, "the partial copy stays") {
				t.Errorf("the hint is %q", hint)
			}
		})
		if got := names(t, f); !slices.Equal(got, []string{"1"}) {
			t.Errorf("there are the backups %v", got)
		}
		diary := &journal{}
		f.Log = diary.log()
		mustBackUp(t, f, "3")
		if !strings.Contains(diary.String(), "resuming the partial copy") {
			t.Errorf("it began anew: %s", diary)
		}
		mustEqual(t, source, filepath.Join(f.path, "3"))
	})
}

func TestNothingThatOnlyAnInterruptedRunCopiedIsInABackup(t *testing.T) {
	everywhere(t, func(t *testing.T, source string, f *Destination) {
		f.Rsync = []string{"-a"} // which deletes nothing
		write(t, source, "a", "gone")
		t.Run("", func(t *testing.T) {
			rsyncIs(t, `case "$*" in *--stats*) "$real" "$@"; for dir in "$@"; do :; done; echo part >"$dir/.a.Xy12Zz"; kill -9 $$;; *) exec "$real" "$@";; esac`)
			_, err := backUp(t.Context(), f, "1")
			mustRefuse(t, err, "signal")
		})
		check(t, os.Remove(filepath.Join(source, "gone")))
		check(t, os.Chtimes(source, time.Unix(1, 0), time.Unix(1, 0))) // -a compares times by the second
		mustBackUp(t, f, "2")
		mustEqual(t, source, filepath.Join(f.path, "2"))
	})
}

func TestAFullDiskMakesNoBackup(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	s := sourceOf(t, SourceOptions{}, "small")
	disk := t.TempDir()
	btrfstest.Run(t, "mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk)
	t.Cleanup(func() { btrfstest.Unmount(t, disk) })
	f := NewDestination(here(), filepath.Join(disk, "folder"), s, Options{Log: quiet(), MaxDelete: 100})
	mustBackUp(t, f, "1")
	large := filepath.Join(s.path, "large")
	check(t, os.WriteFile(large, bytes.Repeat([]byte("x"), 32<<20), 0o644))
	_, err := backUp(t.Context(), f, "2")
	if hint := mustRefuse(t, err, "No space left on device"); !strings.HasPrefix(hint, "make room at "+f.path) {
		t.Errorf("the hint is %q", hint)
	}
	if got := names(t, f); !slices.Equal(got, []string{"1"}) {
		t.Errorf("there are the backups %v", got)
	}
	btrfstest.Run(t, "mount", "-o", "remount,size=64m", disk) // the user makes room
	mustBackUp(t, f, "3")
	mustEqual(t, s.path, filepath.Join(f.path, "3"))
}

func TestNothingIsCopiedToWhatLiesUnderADiskThatIsUnmountedMeanwhile(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "file")
	f := folderFor(t, s, Options{})
	mustBackUp(t, f, "1")
	_, err := save(t.Context(), f, "2", func(transfer engine.Transfer) (engine.Result, error) {
		return f.copy(t.Context(), transfer, func(ctx context.Context, transfer engine.Transfer, c copier) (engine.Result, error) {
			check(t, os.Rename(f.path, f.path+".away"))
			check(t, os.Mkdir(f.path, 0o755))
			return f.save(ctx, transfer, c)
		})
	})
	mustRefuse(t, err, "No such file or directory")
	if entries, err := os.ReadDir(f.path); err != nil || len(entries) > 0 {
		t.Errorf("there are %v, %v", entries, err)
	}
}
