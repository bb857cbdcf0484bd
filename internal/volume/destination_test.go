package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"

	"golang.org/x/sys/unix"
)

func TestADestinationIsCreatedOnBtrfsOnly(t *testing.T) {
	t.Parallel()
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
			d := NewDestination(here, test.path, nil, test.o)
			err := d.Open(t.Context())
			if test.create && errors.Is(err, fs.ErrNotExist) {
				err = d.Create(t.Context())
			}
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.path) {
				t.Errorf("error: %v, want %v", err, test.want)
			}
			if err == nil {
				check(t, d.Close())
			}
		})
	}
	wantNames(t, plain)
	wantNames(t, top, "a")
}

func TestReceivingRefusesANameThatIsTaken(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(btrfstest.New(t, testSize).Dir, "folder")
	d := openDestination(t, folder, silent)
	newDir(t, folder, "directory")
	if _, err := d.Receive(t.Context(), transferOf("directory")); !errors.Is(err, fs.ErrExist) || hint.Of(err) == "" {
		t.Errorf("error: %v, hint: %q", err, hint.Of(err))
	}
	wantNames(t, folder, "directory")
}

func TestWhatIsReceivedCountsOnlyWhenItIsCommitted(t *testing.T) {
	t.Parallel()
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
		r, err := d.Receive(t.Context(), stream.Transfer{Transfer: engine.Transfer{Snapshot: taken}, Format: format})
		check(t, err)
		check(t, s.Send(t.Context(), stream.Transfer{Transfer: engine.Transfer{Snapshot: taken}, Format: format}, sendstream.Prefix{}, r))
		received, err := r.Close(t.Context())
		check(t, err)
		if received.ReceivedUUID != taken.UUID || !received.ReadOnly {
			t.Errorf("received %+v", received)
		}
		wantNames(t, d.path, ".new.incoming")
		if commit {
			check(t, r.Commit(t.Context(), s.Origin()))
			wantNames(t, d.path, ".btrfs-backup", "new")
			continue
		}
		check(t, r.Abort(t.Context()))
		check(t, r.Abort(t.Context())) // nothing is there any more
		wantNames(t, d.path)
	}
	btrfstest.Equal(t, filepath.Join(s.path, "new"), filepath.Join(d.path, "new"), btrfstest.RootTime)
}

func TestASubvolumeThatCannotBeDeletedStaysReadOnly(t *testing.T) {
	t.Parallel()
	o := silent
	o.ConvertRW = true
	d := openDestination(t, filepath.Join(btrfstest.New(t, testSize).Dir, "folder"), o)
	for _, name := range []string{"full", "empty"} {
		newSubvolume(t, d.path, name)
	}
	newSubvolume(t, d.path, "full", "inner")
	for _, name := range []string{"full", "empty"} {
		check(t, btrfs.SetReadOnly(open(t, d.path), name, true))
	}
	deleted, err := d.Delete(t.Context(), []string{"full", "empty"})
	if strings.Join(deleted, " ") != "empty" || !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("deleted %q, error: %v", deleted, err)
	}
	if !info(t, filepath.Join(d.path, "full")).ReadOnly {
		t.Error("it is writable now")
	}
}
