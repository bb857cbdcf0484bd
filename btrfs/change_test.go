package btrfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// longest is the longest name of a subvolume.
var longest = strings.Repeat("x", 255)

// operations are those that take the name of a subvolume in a directory.
var operations = map[string]func(source, dir *os.File, name string) error{
	"create":            func(_, dir *os.File, name string) error { return btrfs.Create(dir, name) },
	"snapshot":          btrfs.Snapshot,
	"writable snapshot": btrfs.SnapshotWritable,
	"delete":            func(_, dir *os.File, name string) error { return btrfs.Delete(dir, name) },
	"read-only":         func(_, dir *os.File, name string) error { return btrfs.SetReadOnly(dir, name, true) },
	"writable":          func(_, dir *os.File, name string) error { return btrfs.SetReadOnly(dir, name, false) },
	"rename":            func(_, dir *os.File, name string) error { return btrfs.Rename(dir, name, "new") },
	"rename to":         func(_, dir *os.File, name string) error { return btrfs.Rename(dir, "subvolume", name) },
	"rename both":       func(_, dir *os.File, name string) error { return btrfs.Rename(dir, name, name) },
}

// newSource makes a subvolume with a file, and a folder beside it.
func newSource(t testing.TB) (source, folder *os.File) {
	t.Helper()
	top := btrfstest.New(t, testSize).Dir
	source = newSubvolume(t, top, "source")
	check(t, os.WriteFile(source.Name()+"/file", []byte("content"), 0o644))
	return source, newDir(t, top, "folder")
}

// entries lists everything below a directory, with what it is and what is in it.
func entries(t testing.TB, dir *os.File) []string {
	t.Helper()
	var found []string
	check(t, filepath.WalkDir(dir.Name(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		content := ""
		switch d.Type() {
		case fs.ModeSymlink:
			content, err = os.Readlink(path)
		case 0:
			content = string(btrfstest.Run(t, "cat", path))
		}
		found = append(found, fmt.Sprintf("%s %s %d %q", strings.TrimPrefix(path, dir.Name()), d.Type(), inode(t, path), content))
		return err
	}))
	return found
}

func TestSnapshotIsAReadOnlyCopy(t *testing.T) {
	source, folder := newSource(t)
	s := snapshot(t, source, folder, "snapshot")
	check(t, os.WriteFile(source.Name()+"/file", []byte("changed"), 0o644))
	if content, err := os.ReadFile(s.Name() + "/file"); string(content) != "content" {
		t.Errorf("it holds %q, %v", content, err)
	}
	if err := os.WriteFile(s.Name()+"/new", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("it can be written to: %v", err)
	}
	if got := info(t, s); !got.ReadOnly || got.ParentUUID != info(t, source).UUID || got.Name != "snapshot" {
		t.Errorf("it is %+v", got)
	}
}

func TestWritableSnapshotChangesWithoutItsSource(t *testing.T) {
	_, folder := newSource(t)
	source := snapshot(t, open(t, filepath.Dir(folder.Name())+"/source"), folder, "read-only")
	check(t, btrfs.SnapshotWritable(source, folder, "writable"))
	s := open(t, folder.Name()+"/writable")
	if got := info(t, s); got.ReadOnly || got.ParentUUID != info(t, source).UUID {
		t.Errorf("it is %+v", got)
	}
	check(t, os.WriteFile(s.Name()+"/file", []byte("changed"), 0o644))
	if content, err := os.ReadFile(source.Name() + "/file"); string(content) != "content" {
		t.Errorf("its source holds %q now, %v", content, err)
	}
}

func TestSnapshotRefusesOtherSourcesThanSubvolumes(t *testing.T) {
	source, folder := newSource(t)
	for what, from := range map[string]*os.File{
		"a directory":           newDir(t, source.Name(), "directory"),
		"another filesystem":    newSubvolume(t, btrfstest.New(t, testSize).Dir, "elsewhere"),
		"no btrfs":              open(t, "/proc"),
		"a file of a subvolume": open(t, source.Name()+"/file"),
	} {
		if err := btrfs.Snapshot(from, folder, "snapshot"); err == nil {
			t.Errorf("took a snapshot of %s", what)
		}
	}
	if got := entries(t, folder); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
}

// A program that takes a directory of the wanted name for the place to put the snapshot in hides the snapshot there.
func TestTakenNamesAreNeitherOverwrittenNorNestedInto(t *testing.T) {
	source, folder := newSource(t)
	newSubvolume(t, folder.Name(), "subvolume")
	newSubvolume(t, folder.Name(), "empty subvolume")
	newDir(t, folder.Name(), "empty directory")
	check(t, os.WriteFile(folder.Name()+"/file", []byte("theirs"), 0o644))
	check(t, os.Symlink("empty directory", folder.Name()+"/link"))
	check(t, os.Symlink("nowhere", folder.Name()+"/dangling"))
	before := entries(t, folder)
	for _, taken := range []string{"empty subvolume", "empty directory", "file", "link", "dangling"} {
		for _, what := range []string{"create", "snapshot", "writable snapshot", "rename to"} {
			if err := operations[what](source, folder, taken); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s %s: %v, want %v", what, taken, err, fs.ErrExist)
			}
		}
	}
	if after := entries(t, folder); !slices.Equal(after, before) {
		t.Errorf("changed to %q\nfrom %q", after, before)
	}
}

func TestNamesAreSinglePathComponents(t *testing.T) {
	source, folder := newSource(t)
	newSubvolume(t, folder.Name(), "subvolume")
	newSubvolume(t, filepath.Dir(folder.Name()), "outside")
	top := open(t, filepath.Dir(folder.Name()))
	before := entries(t, top)
	for _, name := range []string{"", ".", "..", "../outside", "/", "/outside", "a/b", "subvolume/", "new\x00", "subvolume\x00", longest + "x"} {
		for what, do := range operations {
			if err := do(source, folder, name); err == nil {
				t.Errorf("%s: the name %.20q is accepted", what, name)
			}
		}
	}
	if after := entries(t, top); !slices.Equal(after, before) {
		t.Errorf("changed to %q\nfrom %q", after, before)
	}
}

func TestEveryNameThatTheFilesystemAllowsWorks(t *testing.T) {
	source, folder := newSource(t)
	for _, name := range []string{longest, "new\nline", "\xff", "-r", "..."} {
		check(t, btrfs.Create(folder, name))
		check(t, btrfs.Rename(folder, name, "renamed"))
		check(t, btrfs.Delete(folder, "renamed"))
		check(t, btrfs.Snapshot(source, folder, name))
		check(t, btrfs.SetReadOnly(folder, name, false))
		check(t, btrfs.Delete(folder, name))
	}
	if got := entries(t, folder); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
}

func TestDeleteRefusesASubvolumeThatHoldsAnother(t *testing.T) {
	_, folder := newSource(t)
	outer := newSubvolume(t, folder.Name(), "outer")
	newSubvolume(t, outer.Name(), "inner")
	if err := btrfs.Delete(folder, "outer"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("error: %v", err)
	}
	if got := names(list(t, outer).InDirectory); !slices.Equal(got, []string{"inner"}) {
		t.Errorf("left: %q", got)
	}
}

func TestDeleteDeletesSubvolumesOnlyAndReadOnlyOnesToo(t *testing.T) {
	source, folder := newSource(t)
	outside := newSubvolume(t, filepath.Dir(folder.Name()), "outside")
	newDir(t, folder.Name(), "directory")
	check(t, os.WriteFile(folder.Name()+"/file", nil, 0o644))
	check(t, os.Symlink(outside.Name(), folder.Name()+"/link"))
	top := open(t, filepath.Dir(folder.Name()))
	before := entries(t, top)
	for _, name := range []string{"directory", "file", "link"} {
		if err := btrfs.Delete(folder, name); err == nil {
			t.Errorf("deleted the %s", name)
		}
	}
	if err := btrfs.Delete(folder, "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleting what is missing: %v", err)
	}
	snapshot(t, source, folder, "snapshot")
	check(t, btrfs.Delete(folder, "snapshot"))
	if after := entries(t, top); !slices.Equal(after, before) {
		t.Errorf("changed to %q\nfrom %q", after, before)
	}
}

func TestWhatIsImmutableIsDeletedOnlyIfItIsUnlocked(t *testing.T) {
	source, folder := newSource(t)
	for _, flag := range []btrfs.Flags{btrfs.ImmutableFlag, btrfs.AppendFlag} {
		check(t, btrfs.SetFlags(source, flag))
		snapshot(t, source, folder, "snapshot")
		check(t, btrfs.SetFlags(source, 0))
		if err := btrfs.Delete(folder, "snapshot"); !errors.Is(err, unix.EPERM) {
			t.Errorf("it is locked: %v", err)
		}
		if !btrfs.Unlock(folder, "snapshot") || btrfs.Unlock(folder, "snapshot") {
			t.Error("it is not locked, or still")
		}
		check(t, btrfs.Delete(folder, "snapshot"))
	}
}

func TestSetFlagsPassesOverWhatCannotBe(t *testing.T) {
	source, _ := newSource(t)
	dir := newDir(t, source.Name(), "dir")
	const cow, compress = btrfs.NoCowFlag, btrfs.NoCompressFlag
	full, err := os.Create(filepath.Join(dir.Name(), "full"))
	check(t, err)
	defer full.Close()
	check(t, btrfs.SetFlags(full, cow))
	_, err = full.WriteString("x")
	check(t, err)
	for _, step := range []struct {
		file      *os.File
		set, want btrfs.Flags
	}{
		{dir, cow, cow}, {dir, compress, compress}, {dir, cow | btrfs.AppendFlag, cow | btrfs.AppendFlag}, {dir, compress, compress}, {dir, 0, 0},
		{full, 0, cow}, {full, compress, cow}, {full, compress | btrfs.NoDumpFlag, cow | btrfs.NoDumpFlag},
	} {
		check(t, btrfs.SetFlags(step.file, step.set))
		got, err := btrfs.FlagsOf(step.file)
		check(t, err)
		if got != step.want {
			t.Errorf("set %v of %s: %v, want %v", step.set, filepath.Base(step.file.Name()), got, step.want)
		}
	}
}

func TestSetReadOnlySetsAndClearsTheFlag(t *testing.T) {
	source, folder := newSource(t)
	first := snapshot(t, source, folder, "snapshot")
	received := newDir(t, folder.Name(), "received")
	receive(t, received.Name(), first)
	for dir, name := range map[*os.File]string{folder: "snapshot", received: "snapshot"} {
		before := info(t, open(t, filepath.Join(dir.Name(), name)))
		for _, readOnly := range []bool{false, true, true} {
			check(t, btrfs.SetReadOnly(dir, name, readOnly))
			got := info(t, open(t, filepath.Join(dir.Name(), name)))
			if got.ReadOnly != readOnly {
				t.Errorf("after setting it to %t: %+v", readOnly, got)
			}
			if got.UUID != before.UUID || got.ReceivedUUID != before.ReceivedUUID {
				t.Errorf("the identity is changed from\n%+v to\n%+v", before, got)
			}
		}
	}
	newDir(t, folder.Name(), "directory")
	if err := btrfs.SetReadOnly(folder, "directory", true); err == nil {
		t.Error("set the flag of a directory")
	}
	outside := newSubvolume(t, filepath.Dir(folder.Name()), "outside")
	check(t, os.Symlink(outside.Name(), filepath.Join(folder.Name(), "link")))
	if err := btrfs.SetReadOnly(folder, "link", true); err == nil || info(t, outside).ReadOnly {
		t.Errorf("a symbolic link was followed: %v", err)
	}
	if err := btrfs.SetReadOnly(folder, "missing", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("setting the flag of what is missing: %v", err)
	}
}

func TestRenameWorksOnReceivedSubvolumes(t *testing.T) {
	source, folder := newSource(t)
	first := snapshot(t, source, folder, "first")
	received := newDir(t, folder.Name(), "received")
	receive(t, received.Name(), first)
	before := list(t, received).InDirectory[0]
	check(t, btrfs.Rename(received, "first", "renamed"))
	after := list(t, received).InDirectory
	if len(after) != 1 || after[0].Name != "renamed" || after[0].UUID != before.UUID || !after[0].ReadOnly {
		t.Errorf("renamed to %+v", after)
	}
	if err := btrfs.Rename(received, "missing", "anything"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("renaming what is missing: %v", err)
	}
}
