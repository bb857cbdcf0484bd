package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestBothSidesKeepByTheirOwnCalendar(t *testing.T) {
	t.Parallel()
	source, destination := newPair(t)
	old := []string{"20240101-120000", "20240201-090000", "20240201-180000", "20250301-090000", "20250302-090000", "20250302-100000"}
	succeed(t, source) // makes the folder
	folder := filepath.Join(source, "snapshot")
	for _, name := range old {
		btrfstest.Check(t, btrfs.Snapshot(btrfstest.Open(t, source), btrfstest.Open(t, folder), name))
	}
	succeed(t, "-S", source, destination)
	if got := names(t, destination); len(got) != len(old)+1 {
		t.Fatalf("the backups are %v", got)
	}
	succeed(t, "--keep-snapshots", "2d", "--keep-backups", "*y 2m last=2", source, destination)
	all := names(t, folder)
	today := all[len(all)-2:] // the oldest of the day, and the newest
	if got, want := fmt.Sprint(all), fmt.Sprint(append([]string{"20250302-090000"}, today...)); got != want {
		t.Errorf("the snapshots are %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(names(t, destination)), fmt.Sprint(append([]string{"20240101-120000", "20250301-090000"}, today...)); got != want {
		t.Errorf("the backups are %s, want %s", got, want)
	}
	succeed(t, source, destination) // without a policy all stay
	if got := len(names(t, folder)); got != 4 {
		t.Errorf("there are %d snapshots", got)
	}
}
