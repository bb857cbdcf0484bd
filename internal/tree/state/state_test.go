package state

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

var check = btrfstest.Check

func TestAFileIsReplacedAsAWhole(t *testing.T) {
	t.Parallel()
	folder := btrfstest.Open(t, t.TempDir())
	files := In(folder)
	expect := func(content string) {
		t.Helper()
		if got, err := files.Read("file"); string(got) != content {
			t.Errorf("it reads %q, %v", got, err)
		}
	}
	check(t, files.Write("file", []byte("old")))
	draft, err := files.Create("file")
	check(t, err)
	_, err = draft.WriteString("new")
	check(t, err)
	expect("old")
	check(t, draft.Commit())
	draft.Abandon()
	expect("new")
	draft, err = files.Create("file")
	check(t, err)
	draft.Abandon()
	expect("new")
	found, err := os.ReadDir(files.Path(""))
	check(t, err)
	if len(found) != 2 || found[0].Name() != "file" || found[1].Name() != Manifests {
		t.Errorf("there are %v", found)
	}
}

func TestNoFileIsReachedThroughASymbolicLink(t *testing.T) {
	t.Parallel()
	folder := btrfstest.Open(t, t.TempDir())
	files, outside := In(folder), t.TempDir()
	check(t, os.WriteFile(outside+"/file", []byte("precious"), 0o600))
	check(t, os.Symlink(outside, files.Path("")))
	for what, try := range map[string]func() error{
		"reading":  func() error { _, err := files.Read("file"); return err },
		"writing":  func() error { return files.Write("file", nil) },
		"removing": func() error { return files.Remove("file") },
	} {
		if try() == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if content, err := os.ReadFile(outside + "/file"); string(content) != "precious" {
		t.Errorf("it is %q, %v", content, err)
	}
}

func TestOnlyFilesInTheDirectoryOfManifestsAreNamed(t *testing.T) {
	t.Parallel()
	files := In(btrfstest.Open(t, t.TempDir()))
	if names, err := files.Names(); len(names) > 0 || err != nil {
		t.Errorf("without it there are %q, %v", names, err)
	}
	for _, name := range []string{IDFile, ManifestFile("b"), RecordFile("a")} {
		check(t, files.Write(name, nil))
	}
	if names, err := files.Names(); !slices.Equal(names, []string{"a.json", "b.zst"}) || err != nil {
		t.Errorf("there are %q, %v", names, err)
	}
}

func TestAnErrorNamesAFileAndNotItsDraft(t *testing.T) {
	t.Parallel()
	files := In(btrfstest.Open(t, t.TempDir()))
	draft, err := files.Create("file")
	check(t, err)
	draft.Abandon()
	if _, err := draft.Write(nil); err == nil || !strings.Contains(err.Error(), files.Path("file")+":") {
		t.Errorf("error: %v", err)
	}
}
