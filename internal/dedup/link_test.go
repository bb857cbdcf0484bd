package dedup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

const large = 100_000

func TestAFileThatIsKnownUnderAnotherNameBecomesALink(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "a/name", content)
	e := f.write(hidden, "other/place", content)
	dir := f.stat(hidden, "other").Mtim
	after, shared := f.shareOnce(e)
	if shared != large || !f.linked("old", "a/name", hidden, "other/place") {
		t.Errorf("%d bytes are shared", shared)
	}
	if want := f.entry(hidden, "other/place"); after != want {
		t.Errorf("the entry is %+v instead of %+v", after, want)
	}
	if now := f.stat(hidden, "other").Mtim; now != dir {
		t.Errorf("the time of the directory changed from %v to %v", dir, now)
	}
	f.expectContent(e, content)
	f.expectNoWarning()
}

func TestAFileThatDiffersInItsMetadataIsNotLinked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	before := f.entry("old", "file")
	changes := map[string]func(path string) error{
		"mode":  func(path string) error { return os.Chmod(path, 0o600) },
		"owner": func(path string) error { return os.Chown(path, 1, -1) },
		"group": func(path string) error { return os.Chown(path, -1, 1) },
		"time":  func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1e9, 123456788)) },
		"xattr": func(path string) error { return unix.Setxattr(path, "user.a", []byte("b"), 0) },
		"acl": func(path string) error {
			btrfstest.Run(t, "setfacl", "-m", "u:1:r", path)
			return os.Chmod(path, 0o644)
		},
	}
	for name, change := range changes {
		f.write(hidden, name, content)
		check(t, change(filepath.Join(f.dir, hidden, name)))
		e := f.entry(hidden, name)
		after, shared := f.shareOnce(e)
		if shared != 0 || after != e {
			t.Errorf("%s: %d bytes are shared", name, shared)
		}
		f.expectUnlinked(e, content)
	}
	if after := f.entry("old", "file"); after != before {
		t.Errorf("the older file is %+v instead of %+v", after, before)
	}
}

func TestEqualAttributesDoNotKeepAFileFromBeingLinked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	for _, root := range []string{"old", hidden} {
		f.write(root, "file", content)
		check(t, unix.Setxattr(filepath.Join(f.dir, root, "file"), "user.a", []byte("b"), 0))
	}
	f.with(func(x *Index) { check(t, x.Add("old", f.entry("old", "file"))) })
	f.shareOnce(f.entry(hidden, "file"))
	if !f.linked("old", "file", hidden, "file") {
		t.Error("it was not linked")
	}
}

func TestTwoFilesOfTheSourceNeverBecomeOne(t *testing.T) {
	t.Parallel()
	content := random(large, 1)
	t.Run("the known file is part of the backup", func(t *testing.T) {
		f := newFixture(t, "ext4")
		f.inUse[f.known("old", "a", content).Inode] = true
		e := f.write(hidden, "b", content)
		f.shareOnce(e)
		f.expectUnlinked(e, content)
	})
	t.Run("the known file became part of the backup", func(t *testing.T) {
		for _, adds := range []bool{false, true} {
			f := newFixture(t, "ext4")
			f.known("old", "a", content)
			b, c := f.write(hidden, "b", content), f.write(hidden, "c", content)
			f.with(func(x *Index) {
				linked, shared := f.share(x, b)
				if shared == 0 {
					t.Error("the first was not linked")
				}
				if adds {
					check(t, x.Add(newBackup, linked))
				}
				f.share(x, c)
			})
			f.expectUnlinked(c, content)
		}
	})
	t.Run("the known file is of the backup itself", func(t *testing.T) {
		f := newFixture(t, "ext4")
		b, c := f.write(hidden, "b", content), f.write(hidden, "c", content)
		f.with(func(x *Index) {
			f.share(x, b)
			check(t, x.Add(newBackup, b))
			f.share(x, c)
		})
		f.expectUnlinked(c, content)
	})
}

func TestAFileWithSeveralLinksKeepsThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	f.write(hidden, "b", content)
	check(t, os.Link(filepath.Join(f.dir, hidden, "b"), filepath.Join(f.dir, hidden, "c")))
	f.shareOnce(f.entry(hidden, "b"))
	if !f.linked(hidden, "b", hidden, "c") {
		t.Error("two names of one file became two files")
	}
}

func TestTheLimitOfLinksEndsInACopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	const limit = 65_000 // linux/fs/ext4/ext4.h: EXT4_LINK_MAX
	full := filepath.Join(f.dir, "old", "file")
	for i := f.stat("old", "file").Nlink; i < limit; i++ {
		check(t, os.Link(full, full+strconv.Itoa(int(i))))
	}
	if err := os.Link(full, full+"-more"); !errors.Is(err, unix.EMLINK) {
		t.Fatalf("one more link gives %v", err)
	}
	e := f.write(hidden, "file", content)
	if after, shared := f.shareOnce(e); shared != 0 || after != e {
		t.Errorf("%d bytes are shared", shared)
	}
	f.expectUnlinked(e, content)
	f.known("old", "fresh", content)
	if f.shareOnce(e); !f.linked("old", "fresh", hidden, "file") {
		t.Error("the copy that is known since is not linked to")
	}
}

func TestALinkToAnotherFilesystemEndsInACopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "btrfs")
	content := random(large, 1)
	btrfstest.Run(t, "btrfs", "subvolume", "create", filepath.Join(f.dir, "old"))
	f.known("old", "file", content)
	e := f.write(hidden, "file", content)
	f.with(func(x *Index) {
		x.sharing = byLinks
		if after, shared := f.share(x, e); shared != 0 || after != e {
			t.Errorf("%d bytes are shared", shared)
		}
	})
	f.expectUnlinked(e, content)
}

func TestMountsInTheFolderAreNotEntered(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	elsewhere := filepath.Join(f.dir, "elsewhere")
	check(t, os.MkdirAll(filepath.Join(f.dir, "old"), 0o755))
	check(t, os.Mkdir(elsewhere, 0o755))
	btrfstest.Run(t, "mount", "--bind", elsewhere, filepath.Join(f.dir, "old"))
	defer btrfstest.Unmount(t, filepath.Join(f.dir, "old"))
	f.known("old", "file", content)
	f.with(func(x *Index) {
		if o, err := x.open("old/file"); !errors.Is(err, unix.EXDEV) {
			t.Errorf("%v, %v", o, err)
		}
	})
}

// rot changes a byte of a file, but not its times.
func (f *fixture) rot(root, path string) {
	f.t.Helper()
	full := filepath.Join(f.dir, root, path)
	st := f.stat(root, path)
	content, err := os.ReadFile(full)
	check(f.t, err)
	content[len(content)/2] ^= 1
	file, err := os.OpenFile(full, os.O_WRONLY, 0)
	check(f.t, err)
	defer file.Close()
	_, err = file.WriteAt(content, 0)
	check(f.t, err)
	check(f.t, unix.UtimesNano(full, []unix.Timespec{st.Atim, st.Mtim}))
}

func TestRotDoesNotSpread(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	f.rot("old", "file")
	e := f.write(hidden, "file", content)
	f.with(func(x *Index) {
		if after, shared := f.share(x, e); shared != 0 || after != e {
			t.Errorf("%d bytes are shared", shared)
		}
		check(t, x.Add("kept", e))
	})
	f.expectUnlinked(e, content)
	f.expectWarning(filepath.Join(f.dir, "old/file")+" is damaged", "btrfs-backup verify "+filepath.Join(f.dir, "old"))

	check(t, os.Rename(filepath.Join(f.dir, hidden), filepath.Join(f.dir, "kept")))
	f.write(hidden, "file", content)
	if f.shareOnce(f.entry(hidden, "file")); !f.linked("kept", "file", hidden, "file") {
		t.Error("the new file did not take the place of the damaged one")
	}
}

func TestAFileThatWasLinkedToIsReadAgainBeforeTheNextLink(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	e := f.write(hidden, "file", content)
	f.with(func(x *Index) {
		after, shared := f.share(x, e)
		if shared != large {
			t.Errorf("%d bytes are shared", shared)
		}
		check(t, x.Add("second", after))
	})
	check(t, os.Rename(filepath.Join(f.dir, hidden), filepath.Join(f.dir, "second")))
	f.rot("old", "file")
	e = f.write(hidden, "last", content)
	f.shareOnce(e)
	f.expectUnlinked(e, content)
	f.expectWarning("is damaged")
}

func TestAKnownFileThatIsNotWhatItWasIsNotLinked(t *testing.T) {
	t.Parallel()
	content := random(large, 1)
	replace := map[string]func(t *testing.T, f *fixture, path string){
		"another size": func(t *testing.T, _ *fixture, path string) {
			check(t, os.WriteFile(path, content[1:], 0o644))
			check(t, os.Chtimes(path, time.Time{}, time.Unix(1e9, 123456789)))
		},
		"another time": func(t *testing.T, _ *fixture, path string) {
			check(t, os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)))
		},
		"a fifo": func(t *testing.T, _ *fixture, path string) {
			check(t, os.Remove(path))
			check(t, unix.Mkfifo(path, 0o644))
		},
		"a symbolic link": func(t *testing.T, f *fixture, path string) {
			check(t, os.Rename(path, path+"-moved"))
			check(t, os.Symlink(path+"-moved", path))
		},
		"a relative symbolic link": func(t *testing.T, f *fixture, path string) {
			check(t, os.Rename(path, path+"-moved"))
			check(t, os.Symlink(filepath.Base(path)+"-moved", path))
		},
		"in a directory that is a symbolic link now": func(t *testing.T, f *fixture, path string) {
			check(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+"-moved"))
			check(t, os.Symlink(filepath.Base(filepath.Dir(path))+"-moved", filepath.Dir(path)))
		},
		"gone": func(t *testing.T, _ *fixture, path string) { check(t, os.Remove(path)) },
	}
	for name, do := range replace {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "ext4")
			f.known("old", "dir/file", content)
			do(t, f, filepath.Join(f.dir, "old/dir/file"))
			e := f.write(hidden, "file", content)
			if name == "another time" { // only the record tells that it changed
				check(t, os.Chtimes(filepath.Join(f.dir, hidden, "file"), time.Time{}, time.Unix(1e9, 0)))
				e = f.entry(hidden, "file")
			}
			if after, shared := f.shareOnce(e); shared != 0 || after != e {
				t.Errorf("%d bytes are shared", shared)
			}
			f.expectUnlinked(e, content)
		})
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	check(t, unix.Mkfifo(filepath.Join(f.dir, "fifo"), 0o644))
	check(t, unix.Mknod(filepath.Join(f.dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	check(t, os.Mkdir(filepath.Join(f.dir, "dir"), 0o755))
	f.with(func(x *Index) {
		for _, name := range []string{"fifo", "null", "dir"} {
			if o, err := x.open(name); err == nil {
				t.Errorf("%s was opened", name)
				o.Close()
			}
		}
	})
}

func TestANewFileBehindASymbolicLinkIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	e := f.write(hidden, "dir/file", content)
	dir := filepath.Join(f.dir, hidden, "dir")
	check(t, os.Rename(dir, filepath.Join(f.dir, "elsewhere")))
	check(t, os.Symlink("../elsewhere", dir))
	f.shareOnce(e)
	f.expectUnlinked(e, content)
}

func TestAFileThatCannotBeReplacedStaysAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	e := f.write(hidden, "file", content)
	full := filepath.Join(f.dir, hidden, "file")
	btrfstest.Run(t, "chattr", "+i", full) // a link to the known file can be made, but not renamed over this
	defer btrfstest.Run(t, "chattr", "-i", full)
	if after, shared := f.shareOnce(e); shared != 0 || after != e {
		t.Errorf("%d bytes are shared", shared)
	}
	f.expectUnlinked(e, content)
}

func TestAForgedIndexLeadsNowhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	outside := f.dir
	f.dir = filepath.Join(f.dir, "inner")
	check(t, os.MkdirAll(filepath.Join(f.dir, ".btrfs-backup"), 0o700))
	f.folder = btrfstest.Open(t, f.dir)
	secret := f.write("..", "secret", content)
	for _, p := range []place{
		{Backup: "..", Path: "secret"},
		{Backup: "old", Path: "../../secret"},
		{Backup: "", Path: filepath.Join(outside, "secret")[1:]},
		{Backup: "old", Path: "a\x00b"},
		{Backup: hidden, Path: "file"}, // the new file itself
		{},
	} {
		p.ModTime = secret.ModTime
		check(t, os.MkdirAll(filepath.Join(f.dir, "old"), 0o755))
		e := f.write(hidden, "file", content)
		f.with(func(x *Index) {
			check(t, x.contents.put(keyOf(e), p))
			f.share(x, e)
		})
		f.expectUnlinked(e, content)
	}
}

func TestAFileIsFoundInANeighbourOfABackupThatIsGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	known := f.known("20260103", "file", content)
	for _, backup := range []string{"20260101", "20260102", "20260104", "20260105", "20260106", "20260107"} {
		check(t, os.Mkdir(filepath.Join(f.dir, backup), 0o755))
		check(t, os.WriteFile(filepath.Join(f.dir, ".btrfs-backup/manifests", backup+".json"), nil, 0o600))
	}
	at := func(backup string) string { return filepath.Join(f.dir, backup, "file") }
	check(t, os.Rename(at("20260103"), at("20260105")))
	check(t, os.RemoveAll(filepath.Join(f.dir, "20260103")))
	e := f.write(hidden, "elsewhere", content)
	f.shareOnce(e)
	if !f.linked("20260105", "file", hidden, "elsewhere") {
		t.Error("a newer backup's file was not found")
	}
	check(t, os.Rename(at("20260105"), at("20260102")))
	e = f.write(hidden, "elsewhere-too", content)
	if f.shareOnce(e); !f.linked("20260102", "file", hidden, "elsewhere-too") {
		t.Error("an older backup's file was not found")
	}
	if known.Inode != f.stat("20260102", "file").Ino {
		t.Error("the older file was replaced")
	}

	f.rot("20260102", "file")
	e = f.write(hidden, "third", content)
	f.shareOnce(e)
	f.expectUnlinked(e, content)
	f.expectWarning("20260102/file is damaged")
}

func TestAFileIsSharedOnlyIfItIsTheOneDescribed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	f.known("old", "file", content)
	e := f.write(hidden, "file", content)
	other := f.write(hidden, "other", random(large, 2))
	check(t, os.Rename(filepath.Join(f.dir, hidden, "other"), filepath.Join(f.dir, hidden, "file")))
	f.shareOnce(e)
	f.expectUnlinked(manifest.Entry{Path: "file", Inode: other.Inode}, random(large, 2))
}

func TestTheEndOfTheContextEndsSharing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "ext4")
	content := random(large, 1)
	known := f.write("old", "file", content)
	f.with(func(x *Index) { check(t, x.Add("old", known)) })
	e := f.write(hidden, "file", content)
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	f.with(func(x *Index) {
		if _, _, err := x.Share(ctx, hidden+"/file", e); !errors.Is(err, reason) {
			t.Errorf("%v instead of %v", err, reason)
		}
	})
	f.expectUnlinked(e, content)
	f.expectNoWarning()
}
