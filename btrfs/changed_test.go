package btrfs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestWhatSomebodyChangesSinceASnapshotIsSeenExceptInOneDirectory(t *testing.T) {
	t.Parallel()
	fs := btrfstest.New(t, 256<<20)
	source := filepath.Join(fs.Dir, "home")
	btrfstest.Run(t, "btrfs", "subvolume", "create", source)
	folder := filepath.Join(source, "snapshot")
	file, other := filepath.Join(source, "a/file"), filepath.Join(source, "other")
	btrfstest.Check(t, os.MkdirAll(folder, 0o755))
	btrfstest.Check(t, os.MkdirAll(filepath.Dir(file), 0o755))
	btrfstest.Check(t, os.WriteFile(file, []byte("content"), 0o644))
	btrfstest.Check(t, os.WriteFile(other, []byte("content"), 0o644))
	dir, err := os.Open(source)
	btrfstest.Check(t, err)
	defer dir.Close()
	into, err := os.Open(folder)
	btrfstest.Check(t, err)
	defer into.Close()
	info, err := btrfs.IdentifyDir(into)
	btrfstest.Check(t, err)

	time.Sleep(200 * time.Millisecond) // so much does the clock of inodes count
	take := func(name string) btrfs.Subvolume {
		btrfstest.Check(t, btrfs.SyncFilesystem(dir))
		btrfstest.Check(t, btrfs.Snapshot(dir, into, name))
		btrfstest.Check(t, btrfs.SyncFilesystem(dir))
		s, err := btrfs.InfoAt(into, name)
		btrfstest.Check(t, err)
		return s
	}
	changed := func(since btrfs.Subvolume, except uint64) bool {
		t.Helper()
		btrfstest.Check(t, btrfs.SyncFilesystem(dir))
		is, err := btrfs.IsChanged(dir, since, except)
		btrfstest.Check(t, err)
		return is
	}
	s := take("0")
	btrfstest.Check(t, os.WriteFile(filepath.Join(folder, ".ledger"), []byte("{}"), 0o600))
	btrfstest.Check(t, os.Symlink("0", filepath.Join(folder, ".latest")))
	if _, err := os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if changed(s, info.Inode) {
		t.Error("what is in the folder of the snapshots, or a file that was read, counts as a change")
	}
	if !changed(s, 0) {
		t.Error("without an exception, what is in the folder is not seen")
	}
	for i, change := range []func() error{
		func() error { return os.WriteFile(file, []byte("more"), 0o644) },
		func() error { return os.Chmod(file, 0o600) },
		func() error { return os.Rename(other, other+"2") },
		func() error { return os.Remove(other + "2") },
		func() error { return os.Mkdir(filepath.Join(source, "a/b"), 0o755) },
		func() error { return os.WriteFile(filepath.Join(source, "a/b/new"), nil, 0o644) },
	} {
		s := take(string(rune('1' + i)))
		if changed(s, info.Inode) {
			t.Errorf("%d: a fresh snapshot differs", i)
		}
		btrfstest.Check(t, change())
		if !changed(s, info.Inode) {
			t.Errorf("%d: a change is not seen", i)
		}
	}
	for what, name := range map[string]string{"a file that stands in the folder, too": "linked", "somebody's file in the folder": "mine"} {
		target := filepath.Join(folder, name)
		btrfstest.Check(t, os.WriteFile(target, []byte("1"), 0o644))
		if name == "linked" {
			btrfstest.Check(t, os.Rename(target, filepath.Join(folder, ".linked")))
			target = filepath.Join(source, "a/linked")
			btrfstest.Check(t, os.Link(filepath.Join(folder, ".linked"), target))
		}
		time.Sleep(200 * time.Millisecond)
		s := take(name + ".0")
		if changed(s, info.Inode) {
			t.Errorf("%s: a fresh snapshot differs", what)
		}
		btrfstest.Check(t, os.WriteFile(target, []byte("2"), 0o644))
		if !changed(s, info.Inode) {
			t.Errorf("%s: a change is not seen", what)
		}
	}
}

func TestAChangeUnderAClockThatWasBehindIsSeen(t *testing.T) {
	t.Parallel()
	fs := btrfstest.New(t, 256<<20)
	source := filepath.Join(fs.Dir, "home")
	btrfstest.Run(t, "btrfs", "subvolume", "create", source)
	file, read := filepath.Join(source, "file"), filepath.Join(source, "read")
	btrfstest.Check(t, os.WriteFile(file, []byte("1"), 0o644))
	btrfstest.Check(t, os.WriteFile(read, []byte("1"), 0o644))
	dir := btrfstest.Open(t, source)
	into := btrfstest.Open(t, fs.Dir)
	time.Sleep(200 * time.Millisecond) // so much does the clock of inodes count
	btrfstest.Check(t, btrfs.SyncFilesystem(dir))
	btrfstest.Check(t, btrfs.Snapshot(dir, into, "0"))
	s, err := btrfs.InfoAt(into, "0")
	btrfstest.Check(t, err)
	s.Created = s.Created.Add(time.Hour) // so what comes is an hour older
	changed := func() bool {
		t.Helper()
		btrfstest.Check(t, btrfs.SyncFilesystem(dir))
		is, err := btrfs.IsChanged(dir, s, 0)
		btrfstest.Check(t, err)
		return is
	}
	if _, err := os.ReadFile(read); err != nil || changed() {
		t.Errorf("a file that was read counts as changed; %v", err)
	}
	btrfstest.Check(t, os.WriteFile(file, []byte("2"), 0o644))
	if !changed() {
		t.Error("a change is not seen")
	}
}
