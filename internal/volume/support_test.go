package volume

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
)

const testSize = 256 << 20

var silent = Options{Log: slog.New(slog.DiscardHandler)}

var check, open = btrfstest.Check, btrfstest.Open

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
	s, err := NewSource(path, folder, o)
	check(t, err)
	check(t, s.Open(t.Context(), true))
	t.Cleanup(func() { s.source.Close(); s.dir.Close() })
	return s
}

func openDestination(t testing.TB, path string, o Options) *Destination {
	t.Helper()
	d, err := NewDestination(path, o)
	check(t, err)
	check(t, d.Open(t.Context(), true))
	t.Cleanup(func() { d.dir.Close() })
	return d
}

// copyTo puts a complete copy of a snapshot into a folder.
func copyTo(t testing.TB, folder, snapshot string) {
	t.Helper()
	btrfstest.Run(t, "sh", "-c", `btrfs send -q "$1" | btrfs receive -q "$2"`, "sh", snapshot, folder)
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

// forgetProgram makes what is known of the btrfs program unknown, before and after the test.
func forgetProgram(t *testing.T) {
	forget := func() { progs.format = nil }
	forget()
	t.Cleanup(forget)
}

// fakeBtrfs puts a shell script into PATH as the btrfs program until the end of the test.
func fakeBtrfs(t *testing.T, script string) {
	t.Helper()
	forgetProgram(t)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}
