package volume

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
)

const testSize = 256 << 20

var silent = Options{Log: slog.New(slog.DiscardHandler)}

var check, open = btrfstest.Check, btrfstest.Open

// here is this machine. What it knows of the btrfs program is the same in every test.
var here = local.New(silent.Log)

func newDir(t testing.TB, path ...string) string {
	t.Helper()
	dir := filepath.Join(path...)
	check(t, os.MkdirAll(dir, 0o755))
	return dir
}

func newSubvolume(t testing.TB, path ...string) string {
	t.Helper()
	full := filepath.Join(path...)
	check(t, btrfs.Create(open(t, filepath.Dir(full)), filepath.Base(full)))
	return full
}

func info(t testing.TB, path string) btrfs.Subvolume {
	t.Helper()
	s, err := btrfs.Info(open(t, path))
	check(t, err)
	return s
}

// openSource opens a source and its snapshot folder.
func openSource(t testing.TB, path, folder string, o Options) *Source {
	t.Helper()
	s := NewSource(here, path, folder, o)
	check(t, s.Open(t.Context()))
	if s.dir == nil {
		check(t, s.create(t.Context(), s.checkFolder))
	}
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func openDestination(t testing.TB, path string, o Options) *Destination {
	t.Helper()
	d := NewDestination(here, path, nil, o)
	check(t, openOrCreate(t, d))
	t.Cleanup(func() { check(t, d.Close()) })
	return d
}

// openOrCreate opens a destination, which is created if it is missing.
func openOrCreate(t testing.TB, d *Destination) error {
	t.Helper()
	err := d.Open(t.Context())
	if errors.Is(err, fs.ErrNotExist) {
		err = d.Create(t.Context())
	}
	return err
}

// transferOf is a complete copy of a snapshot of that name.
func transferOf(name string) stream.Transfer {
	return stream.Transfer{Transfer: engine.Transfer{Snapshot: btrfs.Subvolume{Name: name}}}
}

// names gives the entries of a directory, in order.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// fakeBtrfs puts a shell script into PATH as the btrfs program until the end of the test, and gives a machine that does not
// know it yet.
func fakeBtrfs(t *testing.T, script string) host.Host {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "btrfs"), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return local.New(silent.Log)
}
