package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/engine"

	"golang.org/x/sys/unix"
)

func TestADestinationIsCreatedOnBtrfsOnly(t *testing.T) {
	top, plain := btrfstest.New(t, testSize).Dir, t.TempDir()
	tests := []struct {
		name, path string
		create     bool
		o          Options
		want       error
	}{
		{"on btrfs", filepath.Join(top, "a/b"), true, silent, nil},
		{"not asked to", filepath.Join(top, "c/d"), false, silent, fs.ErrNotExist},
		{"elsewhere", filepath.Join(plain, "a/b"), true, silent, btrfs.ErrNotBtrfs},
		{"elsewhere, not asked to", filepath.Join(plain, "c"), false, silent, btrfs.ErrNotBtrfs},
		{"elsewhere, there", plain, true, silent, btrfs.ErrNotBtrfs},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := NewDestination(test.path, test.o)
			check(t, err)
			err = d.Open(t.Context(), test.create)
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.path) {
				t.Errorf("error: %v, want %v", err, test.want)
			}
			if err == nil {
				check(t, d.dir.Close())
			}
		})
	}
	wantNames(t, plain)
	wantNames(t, top, "a")
}

func TestReceivingRefusesANameThatIsTaken(t *testing.T) {
	folder := filepath.Join(btrfstest.New(t, testSize).Dir, "folder")
	d := openDestination(t, folder, silent)
	newDir(t, folder, "directory")
	newSubvolume(t, folder, "subvolume")
	check(t, os.WriteFile(folder+"/file", []byte("theirs"), 0o644))
	check(t, os.Symlink("directory", folder+"/link"))
	check(t, os.Symlink("nowhere", folder+"/dangling"))
	newSubvolume(t, folder, engine.Incoming("hidden"))
	before := names(t, folder)
	for name, kind := range map[string]string{
		"directory": "a directory", "subvolume": "another subvolume", "file": "a file", "link": "a symbolic link",
		"dangling": "a symbolic link", "hidden": "another subvolume",
	} {
		_, err := d.Receive(t.Context(), name)
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), kind) || engine.HintOf(err) == "" {
			t.Errorf("receiving %s: %v, want that it is %s", name, err, kind)
		}
	}
	wantNames(t, folder, before...)
	if err := d.checkFree(strings.Repeat("x", 300)); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that cannot be: %v", err)
	}
	check(t, d.checkFree("free"))
}

func TestWhatIsReceivedCountsOnlyWhenItIsCommitted(t *testing.T) {
	top := btrfstest.New(t, testSize).Dir
	home := newSubvolume(t, top, "home")
	check(t, os.WriteFile(home+"/file", []byte("content"), 0o644))
	s := openSource(t, home, "", silent)
	taken, err := s.Take(t.Context(), "new")
	check(t, err)
	d := openDestination(t, filepath.Join(top, "folder"), silent)
	format, err := d.Accepts(t.Context())
	check(t, err)

	for _, commit := range []bool{false, true} {
		r, err := d.Receive(t.Context(), "new")
		check(t, err)
		check(t, s.Send(t.Context(), engine.Transfer{Snapshot: taken}, format, r))
		received, err := r.Close(t.Context())
		check(t, err)
		if received.ReceivedUUID != taken.UUID || !received.ReadOnly {
			t.Errorf("received %+v", received)
		}
		wantNames(t, d.path, ".new.incoming")
		if commit {
			check(t, r.Commit(t.Context(), s.Subvolume().UUID))
			wantNames(t, d.path, ".btrfs-backup", "new")
			continue
		}
		check(t, r.Abort(t.Context()))
		check(t, r.Abort(t.Context())) // nothing is there any more
		wantNames(t, d.path)
	}
	btrfstest.Equal(t, filepath.Join(s.path, "new"), filepath.Join(d.path, "new"), btrfstest.RootTime)
}

func TestDeleteTellsWhatIsGoneAndEveryFailure(t *testing.T) {
	d := openDestination(t, filepath.Join(btrfstest.New(t, testSize).Dir, "folder"), silent)
	for _, name := range []string{"a", "full", "b", "not asked"} {
		newSubvolume(t, d.path, name)
	}
	newSubvolume(t, d.path, "full", "inner")
	deleted, err := d.Delete(t.Context(), []string{"a", "missing", "full", "b"})
	if strings.Join(deleted, " ") != "a b" {
		t.Errorf("deleted %q", deleted)
	}
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("error: %v", err)
	}
	wantNames(t, d.path, "full", "not asked")
}

func TestDeleteEndsWithItsContext(t *testing.T) {
	d := openDestination(t, filepath.Join(btrfstest.New(t, testSize).Dir, "folder"), silent)
	newSubvolume(t, d.path, "a")
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if deleted, err := d.Delete(ctx, []string{"a"}); len(deleted) > 0 || !errors.Is(err, cause) {
		t.Errorf("deleted %q, error: %v", deleted, err)
	}
	wantNames(t, d.path, "a")
}

func TestASubvolumeThatCannotBeDeletedStaysReadOnly(t *testing.T) {
	o := silent
	o.ConvertRW = true
	d := openDestination(t, filepath.Join(btrfstest.New(t, testSize).Dir, "folder"), o)
	for _, name := range []string{"full", "empty"} {
		newSubvolume(t, d.path, name)
	}
	newSubvolume(t, d.path, "full", "inner")
	check(t, btrfs.SetReadOnly(d.dir, "full", true))
	check(t, btrfs.SetReadOnly(d.dir, "empty", true))
	if deleted, err := d.Delete(t.Context(), []string{"full", "empty"}); strings.Join(deleted, " ") != "empty" || !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("deleted %q, error: %v", deleted, err)
	}
	if !info(t, filepath.Join(d.path, "full")).ReadOnly {
		t.Error("it is writable now")
	}
}
