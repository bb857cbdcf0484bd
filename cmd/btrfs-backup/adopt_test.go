package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/adopt"
)

// adopted adopts, and gives how many backups were.
func adopted(t testing.TB, args ...string) int {
	t.Helper()
	r := expect(t, exitDone, invoke(t, nil, append([]string{"adopt", "--json"}, args...)...))
	var reports []adopt.Report
	btrfstest.Check(t, json.Unmarshal([]byte(r.stdout), &reports))
	return reports[0].Adopted()
}

// recreate makes a source anew with the content that it had, as from an archive.
func recreate(t testing.TB, source string) {
	t.Helper()
	aside := source + " aside"
	btrfstest.Run(t, "cp", "-a", source, aside)
	for _, snapshot := range names(t, filepath.Join(source, "snapshot")) {
		btrfstest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(source, "snapshot", snapshot))
	}
	btrfstest.Run(t, "btrfs", "subvolume", "delete", source)
	btrfstest.Run(t, "btrfs", "subvolume", "create", source)
	btrfstest.Run(t, "sh", "-c", `cp -a "$1/." "$2" && rm -rf "$2/snapshot" "$1"`, "sh", aside, source)
}

func TestARecreatedSourceHasOneHistoryAgainOnceItAdoptsTheOld(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	old := series(t, 3, source, destination)
	recreate(t, source)
	run := func(day int) string {
		write(t, filepath.Join(source, "file"), string(rune('a'+day)))
		return backUp(t, exitDone, march(day), "-n", "2", source, destination).Snapshot
	}
	fourth := run(4)
	want(t, "backups of two sources", names(t, destination), append(old, fourth)...)
	if dry := expect(t, exitDone, invoke(t, nil, "adopt", "--dry-run", source, destination)); !strings.Contains(dry.stdout, "3 backups would count as its own") ||
		!strings.Contains(dry.stdout, ":"+source) {
		t.Errorf("dry run:\n%s", dry.stdout)
	}
	if n := adopted(t, source, destination); n != 3 {
		t.Errorf("%d backups were adopted", n)
	}
	if n := adopted(t, source, destination); n != 0 {
		t.Errorf("%d backups were adopted again", n)
	}
	fifth := run(5)
	want(t, "backups of one source", names(t, destination), fourth, fifth)
}

func TestACloneDoesNotAdoptWhatLives(t *testing.T) {
	t.Parallel()
	disk := smallFS(t).Dir
	template, destination := newSource(t, disk, "template"), filepath.Join(smallFS(t).Dir, "backups")
	first := backUp(t, exitDone, march(1), template, destination).Snapshot
	clone := filepath.Join(disk, "clone")
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", template, clone)
	btrfstest.Run(t, "rmdir", filepath.Join(clone, "snapshot", first))
	refused := expect(t, exitFailed, invoke(t, nil, "adopt", clone, destination))
	if !strings.Contains(refused.stderr, "is another source: it is on the filesystem") {
		t.Errorf("refused:\n%s", refused.stderr)
	}
	own := backUp(t, exitDone, march(2), "-n", "1", clone, destination).Snapshot
	want(t, "backups of both", names(t, destination), first, own)

	if n := adopted(t, "--force", clone, destination); n != 1 {
		t.Errorf("%d backups were adopted", n)
	}
	second := backUp(t, exitDone, march(3), template, destination).Snapshot // it lives indeed
	third := backUp(t, exitDone, march(4), "-n", "1", clone, destination).Snapshot
	want(t, "backups of both again", names(t, destination), first, second, third)
}

func TestADirectoryThatWasMovedGoesOnWithItsHistory(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	source, destination := makeDir(t, top+"/data"), filepath.Join(top, "backups")
	run := func(day int, source string) {
		write(t, filepath.Join(source, "file"), string(rune('a'+day)))
		expect(t, exitDone, invoke(t, march(day), "-n", "2", source, destination))
	}
	run(1, source)
	run(2, source)
	moved := filepath.Join(top, "moved")
	if refused := expect(t, exitFailed, invoke(t, nil, "adopt", makeDir(t, moved), destination)); !strings.Contains(refused.stderr, "there still") {
		t.Errorf("refused:\n%s", refused.stderr)
	}
	btrfstest.Run(t, "rmdir", moved)
	rename(t, source, moved)
	if n := adopted(t, moved, destination); n != 2 {
		t.Errorf("%d backups were adopted", n)
	}
	run(3, moved)
	want(t, "backups", names(t, destination), "20260302-120000", "20260303-120000")
	run(4, makeDir(t, source)) // there is another one of that name again
	run(5, moved)
	want(t, "backups of both", names(t, destination), "20260302-120000", "20260303-120000", "20260304-120000", "20260305-120000")
}
