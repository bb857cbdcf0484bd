package local

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

const size = 256 << 20

func newHost() *Host { return New(slog.New(slog.DiscardHandler)) }

// localOpen opens a directory of this machine, which is made if it is missing.
func open(t testing.TB, h *Host, path ...string) *Dir {
	t.Helper()
	dir := filepath.Join(path...)
	btrfstest.Check(t, os.MkdirAll(dir, 0o755))
	d, err := h.OpenDir(dir)
	btrfstest.Check(t, err)
	t.Cleanup(func() { btrfstest.Check(t, d.Close()) })
	return d
}

// localFolder makes a directory on a btrfs of its own.
func newFolder(t testing.TB) *Dir {
	t.Helper()
	return open(t, newHost(), btrfstest.New(t, size).Dir, "folder")
}

func newSubvolume(t testing.TB, path ...string) string {
	t.Helper()
	full := filepath.Join(path...)
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, filepath.Dir(full)), filepath.Base(full)))
	return full
}

func info(t testing.TB, path ...string) btrfs.Subvolume {
	t.Helper()
	s, err := btrfs.Info(btrfstest.Open(t, filepath.Join(path...)))
	btrfstest.Check(t, err)
	return s
}

// localWantNames compares the entries of a directory.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	btrfstest.Check(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// localFake puts a shell script into PATH as the btrfs program until the end of the test.
func fakeProgram(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	btrfstest.Check(t, os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// localWait waits until a file is there, and gives its content.
func waitFor(path string) string {
	for {
		if content, err := os.ReadFile(path); err == nil {
			return string(content)
		}
		time.Sleep(time.Millisecond)
	}
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func TestDeleteTellsWhatIsGoneAndEveryFailure(t *testing.T) {
	d := newFolder(t)
	for _, name := range []string{"a", "full", "b", "not asked"} {
		newSubvolume(t, d.status.Path, name)
	}
	newSubvolume(t, d.status.Path, "full", "inner")
	deleted, err := d.Delete(t.Context(), []string{"a", "missing", "full", "b"}, host.DeleteOptions{})
	if strings.Join(deleted, " ") != "a b" {
		t.Errorf("deleted %q", deleted)
	}
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("error: %v", err)
	}
	wantNames(t, d.status.Path, "full", "not asked")
}

func TestDeleteEndsWithItsContext(t *testing.T) {
	d := newFolder(t)
	newSubvolume(t, d.status.Path, "a")
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if deleted, err := d.Delete(ctx, []string{"a"}, host.DeleteOptions{}); len(deleted) > 0 || !errors.Is(err, cause) {
		t.Errorf("deleted %q, error: %v", deleted, err)
	}
	wantNames(t, d.status.Path, "a")
}

func TestSubvolumeThatCannotBeDeletedStaysReadOnly(t *testing.T) {
	d := newFolder(t)
	for _, name := range []string{"full", "empty"} {
		newSubvolume(t, d.status.Path, name)
	}
	newSubvolume(t, d.status.Path, "full", "inner")
	for _, name := range []string{"full", "empty"} {
		btrfstest.Check(t, btrfs.SetReadOnly(d.dir, name, true))
	}
	deleted, err := d.Delete(t.Context(), []string{"full", "empty"}, host.DeleteOptions{ConvertRW: true, Wait: true})
	if strings.Join(deleted, " ") != "empty" || !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("deleted %q, error: %v", deleted, err)
	}
	if !info(t, d.status.Path, "full").ReadOnly {
		t.Error("it is writable now")
	}
}

func TestAnImmutableSubvolumeIsNotDeletedAndTheHintTellsHow(t *testing.T) {
	d := newFolder(t)
	newSubvolume(t, d.status.Path, "immutable")
	path := filepath.Join(d.status.Path, "immutable")
	btrfstest.Run(t, "chattr", "+i", path)
	btrfstest.Check(t, btrfs.SetReadOnly(d.dir, "immutable", true))
	deleted, err := d.Delete(t.Context(), []string{"immutable"}, host.DeleteOptions{})
	if len(deleted) > 0 || !errors.Is(err, unix.EPERM) || !strings.Contains(hint.Of(err), "chattr -i -a "+path) {
		t.Errorf("deleted %q, %v (%s)", deleted, err, hint.Of(err))
	}
}

func TestLinkReplacesASymbolicLinkAndNothingElse(t *testing.T) {
	d := newFolder(t)
	path := d.status.Path
	btrfstest.Check(t, os.Mkdir(path+"/directory", 0o755))
	newSubvolume(t, path, "subvolume")
	btrfstest.Check(t, os.WriteFile(path+"/file", []byte("theirs"), 0o644))
	btrfstest.Check(t, os.Symlink("old", path+"/link"))
	btrfstest.Check(t, os.Symlink("directory", path+"/to a directory"))
	for _, name := range []string{"new", "link", "to a directory"} {
		for _, target := range []string{"first", "second"} {
			btrfstest.Check(t, d.Link(t.Context(), name, target))
			if got, err := os.Readlink(filepath.Join(path, name)); got != target || err != nil {
				t.Errorf("%s points to %q, %v, want %q", name, got, err, target)
			}
		}
	}
	for _, name := range []string{"directory", "subvolume", "file"} {
		if err := d.Link(t.Context(), name, "target"); !errors.Is(err, host.ErrNotLink) || !strings.Contains(err.Error(), path) {
			t.Errorf("linking in place of the %s: %v", name, err)
		}
	}
	wantNames(t, path, "directory", "file", "link", "new", "subvolume", "to a directory")
	wantNames(t, path+"/directory")
	if content, err := os.ReadFile(path + "/file"); string(content) != "theirs" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}

func TestListReadsTheStateThatIsThere(t *testing.T) {
	d := newFolder(t)
	got, err := d.List(t.Context())
	btrfstest.Check(t, err)
	if got.Ledger.Content != nil || got.Origins.Content != nil || len(got.InDirectory) > 0 || got.Free == 0 {
		t.Errorf("of an empty directory: %+v", got)
	}
	for _, content := range []string{"first, and longer", "second"} {
		btrfstest.Check(t, d.WriteLedger(t.Context(), []byte(content)))
		got, err := d.List(t.Context())
		btrfstest.Check(t, err)
		if string(got.Ledger.Content) != content {
			t.Errorf("the ledger is %q, want %q", got.Ledger.Content, content)
		}
	}
	wantNames(t, d.status.Path, lock.LedgerFile)
	btrfstest.Check(t, os.Truncate(filepath.Join(d.status.Path, lock.LedgerFile), 0))
	newSubvolume(t, d.status.Path, "a")
	got, err = d.List(t.Context())
	btrfstest.Check(t, err)
	if got.Ledger.Content == nil || len(got.Ledger.Content) > 0 || len(got.InDirectory) != 1 {
		t.Errorf("with an empty ledger and a subvolume: %+v", got)
	}
}

func TestStateIsReadThroughNoLink(t *testing.T) {
	d := newFolder(t)
	elsewhere := filepath.Join(t.TempDir(), "file")
	btrfstest.Check(t, os.WriteFile(elsewhere, []byte("{}"), 0o644))
	ledger := filepath.Join(d.status.Path, lock.LedgerFile)
	btrfstest.Check(t, os.WriteFile(filepath.Join(d.status.Path, "beside"), []byte("{}"), 0o644))
	for _, target := range []string{elsewhere, "beside"} {
		btrfstest.Check(t, os.Symlink(target, ledger))
		if got, err := d.List(t.Context()); err != nil || got.Ledger.Failure == "" {
			t.Errorf("through a link to %s, the ledger is read as %q, %v", target, got.Ledger.Content, err)
		}
		btrfstest.Check(t, os.Remove(ledger))
	}
	btrfstest.Check(t, os.Symlink(filepath.Dir(elsewhere), filepath.Join(d.status.Path, tree.StateDir)))
	btrfstest.Check(t, os.WriteFile(filepath.Join(filepath.Dir(elsewhere), filepath.Base(host.OriginsFile)), []byte("{}"), 0o644))
	if got, err := d.List(t.Context()); err != nil || got.Origins.Failure == "" {
		t.Errorf("a record elsewhere is read as %q, %v", got.Origins.Content, err)
	}
}

func TestTakeRefusesAnotherSubvolumeThanBefore(t *testing.T) {
	d := newFolder(t)
	home := newSubvolume(t, filepath.Dir(d.status.Path), "home")
	if taken, err := d.Take(t.Context(), home, btrfs.UUID{1}, "new"); err == nil {
		t.Errorf("taken: %+v", taken)
	}
	wantNames(t, d.status.Path)
	want := info(t, home).UUID
	taken, err := d.Take(t.Context(), home, want, "new")
	btrfstest.Check(t, err)
	if taken.ParentUUID != want || !taken.ReadOnly || taken.Name != "new" {
		t.Errorf("taken: %+v", taken)
	}
	if _, err := d.Take(t.Context(), home, want, "new"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken: %v", err)
	}
}

func TestLockIsHeldUntilRelease(t *testing.T) {
	d := newFolder(t)
	other := open(t, newHost(), d.status.Path)
	for range 2 {
		release, err := other.Lock(t.Context(), nil)
		btrfstest.Check(t, err)
		if _, err := d.Lock(t.Context(), nil); !lock.IsHeld(err) {
			t.Errorf("while it is held: %v", err)
		}
		btrfstest.Check(t, release())
	}
	release, err := d.Lock(t.Context(), nil)
	btrfstest.Check(t, err)
	btrfstest.Check(t, release())
}
