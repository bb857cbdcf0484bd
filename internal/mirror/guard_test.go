package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/tree"
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
		{"empty", "", "nothing in it", "mounted"},
		{"full/file", "", "not a directory", "directory"},
		{"full", ".backup_valid", "its marker .backup_valid is not there", "mounted"},
		{"wrong", ".backup_valid", "its marker .backup_valid is not there", "mounted"},
		{"full", "../outside", "does not lie in it", ""},
		{"full", "none/.backup_valid", "is not there", "mounted"},
		{"full", "", "", ""},
		{"link", "", "", ""},
		{"marked", ".backup_valid", "", ""},
	} {
		for place, h := range map[string]*elsewhere{"here": nil, "elsewhere": newElsewhere(t)} {
			s := NewSource(here(), filepath.Join(dir, test.name), SourceOptions{Log: quiet(), Marker: test.marker})
			if h != nil {
				s.host = h
			}
			err := s.Check(t.Context())
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

func TestADestinationWhoseDiskIsNotMountedIsRefused(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	s := sourceOf(t, SourceOptions{}, "a")
	o := Options{State: filepath.Join(t.TempDir(), "state")}
	f := folderFor(t, s, o)
	mustBackUp(t, f, "1")
	away := f.path + ".away"

	check(t, os.Rename(f.path, away))
	for _, try := range []string{"backup", "dry run"} {
		_, err := backUp(t.Context(), f, "2")
		if try == "dry run" {
			_, err = rehearsal(t.Context(), f, "2")
		}
		if hint := mustRefuse(t, err, "backups were made there before"); !strings.Contains(hint, "is its disk mounted?") {
			t.Errorf("the hint is %q", hint)
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the engine takes %v for a folder to be created", err)
		}
		if _, err := os.Lstat(f.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder was created: %v", err)
		}
	}

	check(t, os.Mkdir(f.path, 0o755)) // the mount point
	_, err := backUp(t.Context(), f, "2")
	mustRefuse(t, err, "/id is gone")
	if entries, err := os.ReadDir(f.path); err != nil || len(entries) > 0 {
		t.Errorf("there is %v, %v", entries, err)
	}

	f.NewDestination = true
	mustBackUp(t, f, "2")
	f.NewDestination = false
	mustBackUp(t, f, "3")

	// the first disk of the two is as good
	check(t, os.Rename(f.path, f.path+".second"))
	check(t, os.Rename(away, f.path))
	mustBackUp(t, f, "4")
	if got := names(t, f); !slices.Equal(got, []string{"1", "4"}) {
		t.Errorf("there are %v", got)
	}
	used, err := usedFolders{o.State}.read()
	check(t, err)
	if len(used[f.path]) != 2 {
		t.Errorf("on record are %v", used)
	}
}

func TestARehearsalRemembersNothing(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "a")
	f := folderFor(t, s, Options{State: filepath.Join(t.TempDir(), "state")})
	check(t, os.MkdirAll(f.path, 0o755))
	_, err := rehearsal(t.Context(), f, "1")
	check(t, err)
	if _, err := os.Lstat(f.State); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is %s: %v", f.State, err)
	}
	if entries, err := os.ReadDir(f.path); err != nil || len(entries) > 0 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

func TestWithoutUsableStateTheCheckIsNotDoneAndThatIsSaid(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "a")
	for name, spoil := range map[string]func(state string) error{
		"no JSON":  func(state string) error { return os.WriteFile(filepath.Join(state, usedFile), []byte("{"), 0o600) },
		"no file":  func(state string) error { return os.Mkdir(filepath.Join(state, usedFile), 0o700) },
		"no place": func(state string) error { return errors.Join(os.Remove(state), os.WriteFile(state, nil, 0o600)) },
	} {
		diary := &journal{}
		f := folderFor(t, s, Options{State: t.TempDir()})
		f.Log = diary.log()
		check(t, spoil(f.State))
		mustBackUp(t, f, "1")
		if !strings.Contains(diary.String(), "level=WARN") || !strings.Contains(diary.String(), "mounted") {
			t.Errorf("%s: the log tells: %s", name, diary)
		}
	}
}

func TestDestinationsThatAreOpenedSideBySideAreAllRemembered(t *testing.T) {
	t.Parallel()
	used := usedFolders{filepath.Join(t.TempDir(), "state")}
	var adding sync.WaitGroup
	for i := range 20 {
		adding.Go(func() {
			if err := used.add(t.Context(), fmt.Sprint(i%10), fmt.Sprint("id", i)); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	got, err := used.read()
	check(t, err)
	for i := range 10 {
		if len(got[fmt.Sprint(i)]) != 2 {
			t.Fatalf("on record are %v", got)
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
			f := NewFolder(here(), filepath.Join(from, path), s, Options{Log: diary.log(), MaxDelete: 100, Filters: []string{"--include=*"}})
			name := fmt.Sprint(i, j)
			mustBackUp(t, f, name)
			if _, err := os.Lstat(filepath.Join(f.path, name, path)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder %s is in the backup: %v", f, err)
			}
			if _, err := os.Lstat(filepath.Join(f.path, name, "other", "b[c]*/folder/file")); err != nil {
				t.Error(err)
			}
			if !strings.Contains(diary.String(), "left out") {
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
		f := NewFolder(here(), path, s, Options{Log: quiet()})
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
	for want, s := range map[string]*Source{
		name + ":/etc":            NewSource(here(), "/etc/", SourceOptions{}),
		"ssh://elsewhere/etc":     NewSource(newElsewhere(t), "/etc", SourceOptions{}),
		"rsync://nas:1/module/di": NewModule("rsync://me@nas:1/module/di/", SourceOptions{}),
	} {
		if got := s.Identity(); got != want {
			t.Errorf("%s is known as %s", s, got)
		}
	}
}
