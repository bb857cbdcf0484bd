package inventory

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
)

func TestListTakesTheSnapshotFolderIfThereIsOne(t *testing.T) {
	t.Parallel()
	top, elsewhere := btrfstest.New(t, 256<<20).Dir, t.TempDir()
	home, backups := filepath.Join(top, "home"), filepath.Join(top, "backups")
	within, outside := filepath.Join(home, "snapshot"), filepath.Join(top, "outside")
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, top), "home"))
	for _, dir := range []string{backups, within, outside} {
		btrfstest.Check(t, os.Mkdir(dir, 0o755))
	}
	for _, name := range []string{within + "/in it", outside + "/outside", backups + "/saved"} {
		btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, filepath.Dir(name)), filepath.Base(name)))
	}
	btrfstest.Check(t, os.WriteFile(backups+"/file", nil, 0o644))
	tests := []struct {
		name, place, folder string
		want                string // the folder that is listed
		holds               string
	}{
		{"a source", home, "snapshot", within, "in it"},
		{"a folder that is absolute", home, outside + "/.", outside, "outside"},
		{"a destination", backups, "snapshot", backups, "saved"},
		{"a destination and a folder that is absolute", backups, outside, backups, "saved"},
		{"no folder", home, "no/such", home, ""},
		{"a file in its place", backups, "file", backups, "saved"},
	}
	for _, test := range tests {
		got, err := subvolumes(t.Context(), local.New(slog.New(slog.DiscardHandler)), test.place, test.folder)
		if err != nil || got.Folder != test.want || got.Free == 0 {
			t.Errorf("%s: %s is listed, %d bytes free, error: %v", test.name, got.Folder, got.Free, err)
		}
		if (test.holds == "") != (len(got.InDirectory) == 0) || test.holds != "" && got.InDirectory[0].Name != test.holds {
			t.Errorf("%s: holds %+v, want %q", test.name, got.InDirectory, test.holds)
		}
	}
	for place, want := range map[string]error{filepath.Join(top, "missing"): fs.ErrNotExist, elsewhere: btrfs.ErrNotBtrfs} {
		if _, err := subvolumes(t.Context(), local.New(slog.New(slog.DiscardHandler)), place, "snapshot"); !errors.Is(err, want) || hint.Of(err) == "" {
			t.Errorf("%s: error: %v, hint: %q, want %v", place, err, hint.Of(err), want)
		}
	}
}
