package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func TestADoubtfulSourceIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "full/file", "marked/.backup_valid", "marked/file", "wrong/file", "outside")
	check(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	check(t, os.MkdirAll(filepath.Join(dir, "wrong/.backup_valid"), 0o755))
	check(t, os.Symlink("full", filepath.Join(dir, "link")))
	for _, test := range []struct{ name, marker, says, hint string }{
		{"missing", "", "no such file", "mounted"},
		{"empty", "", "is empty", "mounted"},
		{"full/file", "", "not a directory", "directory"},
		{"full", ".backup_valid", "its marker .backup_valid is missing", "mounted"},
		{"wrong", ".backup_valid", "its marker .backup_valid is missing", "mounted"},
		{"full", "../outside", "does not lie in it", ""},
		{"full", "none/.backup_valid", "is missing", "mounted"},
		{"full", "", "", ""},
		{"link", "", "", ""},
		{"marked", ".backup_valid", "", ""},
	} {
		for place, h := range map[string]*elsewhere{"here": nil, "elsewhere": newElsewhere(t)} {
			s := NewSource(here(), filepath.Join(dir, test.name), SourceOptions{Log: quiet(), Marker: test.marker})
			if h != nil {
				s.host = h
			}
			err := s.Open(t.Context())
			if test.says == "" {
				if err != nil {
					t.Errorf("%s, %s is refused: %v", place, test.name, err)
				}
				continue
			}
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), test.says) {
				t.Errorf("%s, of %s is said: %v", place, test.name, err)
				continue
			}
			if hint := mustRefuse(t, err, s.path); !strings.Contains(hint, test.hint) {
				t.Errorf("%s, the hint on %s is %q", place, test.name, hint)
			}
		}
	}
}

func TestAFolderInTheSourceIsNotCopiedIntoItself(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "a", "b[c]*/file", "other/b[c]*/folder/file")
	link := filepath.Join(t.TempDir(), "link")
	check(t, os.Symlink(s.path, link))
	for i, path := range []string{"b[c]*/folder", "plain", "deep/er"} {
		for j, from := range []string{s.path, link} {
			diary := &journal{}
			f := NewDestination(here(), filepath.Join(from, path), s, Options{Log: diary.log(), MaxDelete: 100, Filters: []string{"--include=*"}})
			name := fmt.Sprint(i, j)
			mustBackUp(t, f, name)
			if _, err := os.Lstat(filepath.Join(f.path, name, path)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder %s is in the backup: %v", f, err)
			}
			if _, err := os.Lstat(filepath.Join(f.path, name, "other", "b[c]*/folder/file")); err != nil {
				t.Error(err)
			}
			if !strings.Contains(diary.String(), "is not copied") {
				t.Errorf("the log tells: %s", diary)
			}
		}
	}
}

func TestTheSourceIsNoDestination(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "a")
	link := filepath.Join(t.TempDir(), "link")
	check(t, os.Symlink(s.path, link))
	for _, path := range []string{s.path, link, s.path + "/."} {
		f := NewDestination(here(), path, s, Options{Log: quiet()})
		_, err := backUp(t.Context(), f, "1")
		mustRefuse(t, err, "is the source itself")
	}
	if entries, err := os.ReadDir(s.path); err != nil || len(entries) != 1 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

func TestAFolderThatLiesElsewhereThanTheMountPointIsRefused(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "a")
	f := folderFor(t, s, Options{MountPoint: t.TempDir()})
	_, err := backUp(t.Context(), f, "1")
	if hint := mustRefuse(t, err, "mount"); hint == "" {
		t.Errorf("there is no hint on %v", err)
	}
	if _, err := os.Lstat(f.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was created: %v", err)
	}
}

func TestASourceThatLostMostOfItsFilesIsNotBackedUp(t *testing.T) {
	t.Parallel()
	var files []string
	for i := range 300 {
		files = append(files, fmt.Sprint("file", i))
	}
	s := sourceOf(t, SourceOptions{}, files...)
	f := folderFor(t, s, Options{MaxDelete: 50})
	mustBackUp(t, f, "1")
	for _, name := range files[1:] {
		check(t, os.Remove(filepath.Join(s.path, name)))
	}
	_, err := backUp(t.Context(), f, "2")
	var gone *tree.TooManyGoneError
	if !errors.As(err, &gone) {
		t.Fatalf("got %v", err)
	}
	if hint := mustRefuse(t, err, "missing"); !strings.Contains(hint, "--max-delete") || strings.Contains(hint, "is kept") {
		t.Errorf("the hint is %q", hint)
	}
	if got := names(t, f); !slices.Equal(got, []string{"1"}) {
		t.Errorf("there are %v", got)
	}
	f.MaxDelete = 100
	mustBackUp(t, f, "3")
}

func TestSourcesAreToldApartByMachineAndPath(t *testing.T) {
	t.Parallel()
	name, err := os.Hostname()
	check(t, err)
	for want, s := range map[tree.Origin]*Source{
		{Source: name + ":/etc", Machine: host.OriginOf(here(), "/").Machine}: NewSource(here(), "/etc/", SourceOptions{}),
		{Source: "ssh://elsewhere/etc"}:                                       NewSource(newElsewhere(t), "/etc", SourceOptions{}),
		{Source: "rsync://nas:1/module/di"}:                                   NewModule("rsync://me@nas:1/module/di/", SourceOptions{}),
	} {
		if got := s.origin; got != want {
			t.Errorf("%s is known as %+v", s, got)
		}
	}
}
