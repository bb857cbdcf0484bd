package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

var finalName = regexp.MustCompile(`^([a-z]+-)?\d{8}-\d{6}$`)

// onlyCompleteBackups fails the test unless everything that is visible at the destination is a complete, faithful copy of
// the snapshot of the same name. It gives the names of these backups, oldest first.
func onlyCompleteBackups(t testing.TB, source, destination string) []string {
	t.Helper()
	if _, err := os.Stat(destination); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	backups, snapshots := subvolumes(t, destination), subvolumes(t, filepath.Join(source, "snapshot"))
	visible := names(t, destination)
	for _, name := range visible {
		b, ok := backups[name]
		s, known := snapshots[name]
		switch {
		case !finalName.MatchString(name) || !ok:
			t.Fatalf("%s/%s is no backup", destination, name)
		case !b.ReadOnly:
			t.Fatalf("the backup %s/%s is writable", destination, name)
		case !known:
			t.Fatalf("the backup %s/%s is not of a snapshot that exists", destination, name)
		case b.ReceivedUUID.IsZero() || b.ReceivedUUID != s.UUID:
			t.Fatalf("the backup %s/%s has the Received UUID %s instead of %s", destination, name, b.ReceivedUUID, s.UUID)
		}
		isCopy(t, source, destination, name)
	}
	return visible
}

// unfinished gives the hidden names of unfinished backups.
func unfinished(t testing.TB, destination string) []string {
	t.Helper()
	var left []string
	for name := range subvolumes(t, destination) {
		if strings.HasPrefix(name, ".") {
			left = append(left, name)
		}
	}
	return left
}

// subvolumes lists the subvolumes in a directory, by name.
func subvolumes(t testing.TB, path string) map[string]btrfs.Subvolume {
	t.Helper()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	listing, err := btrfs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]btrfs.Subvolume)
	for _, s := range listing.InDirectory {
		all[s.Name] = s
	}
	return all
}
