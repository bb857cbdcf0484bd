package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// rollBack replaces a source by a writable snapshot of one of its snapshots.
func rollBack(t testing.TB, source, snapshot, away string) {
	t.Helper()
	rename(t, source, away)
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", snapshot, source)
}

func TestARollbackContinuesTheHistory(t *testing.T) {
	t.Parallel()
	disk := smallFS(t).Dir
	source, folder, destination := newSource(t, disk, "@"), makeDir(t, disk+"/snapshots"), filepath.Join(smallFS(t).Dir, "backups")
	options := []string{"-N", "3", "-n", "3", "-f", folder, source, destination}
	run := func(day int) string {
		write(t, filepath.Join(source, "file"), string(rune('a'+day)))
		return backUp(t, exitDone, march(day), options...).Snapshot
	}
	taken := []string{run(1), run(2), run(3)}
	for round, back := range []string{taken[1], ""} {
		if back == "" {
			back = names(t, folder)[0]
		}
		rollBack(t, source, filepath.Join(folder, back), filepath.Join(disk, "broken "+string(rune('a'+round))))
		if round == 1 { // the one before is gone
			btrfstest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(disk, "broken b"))
		}
		first := 4 + 2*round
		dry := expect(t, exitDone, invoke(t, march(first), append([]string{"--dry-run"}, options...)...))
		if strings.Contains(dry.stdout, "another") || strings.Count(dry.stdout, "would delete") != 2 {
			t.Errorf("dry run after rollback %d:\n%s", round+1, dry.stdout)
		}
		run(first)
		run(first + 1)
		want(t, "backups", names(t, destination), names(t, folder)...)
		if n := len(names(t, folder)); n != 3 {
			t.Errorf("%d snapshots after rollback %d", n, round+1)
		}
	}
}

func TestACloneAndItsTemplateShareFoldersWithoutPrefix(t *testing.T) {
	t.Parallel()
	disk := smallFS(t).Dir
	template, folder, destination := newSource(t, disk, "template"), makeDir(t, disk+"/snapshots"), filepath.Join(smallFS(t).Dir, "backups")
	options := []string{"-N", "1", "-n", "1", "-f", folder}
	run := func(day int, source string) string {
		write(t, filepath.Join(source, "file"), source+string(rune('a'+day)))
		return backUp(t, exitDone, march(day), append(options, source, destination)...).Snapshot
	}
	of := run(1, template)
	clone := filepath.Join(disk, "clone")
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", filepath.Join(folder, of), clone)
	second := run(2, clone)
	third := run(3, clone)
	want(t, "snapshots", names(t, folder), of, third)
	want(t, "backups", names(t, destination), of, third)
	if second == third {
		t.Fatal("one snapshot for two")
	}
	fourth := run(4, template)
	want(t, "snapshots", names(t, folder), third, fourth)
	want(t, "backups", names(t, destination), third, fourth)

	btrfstest.Run(t, "btrfs", "subvolume", "delete", template)
	fifth := run(5, clone)
	want(t, "snapshots after the template is gone", names(t, folder), fourth, fifth)
	want(t, "backups after the template is gone", names(t, destination), fourth, fifth)
}

func TestARestoredSourceContinuesTheHistoryOnAnotherDisk(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 3, source, destination)
	disk := smallFS(t).Dir
	folder, restored := makeDir(t, disk+"/snapshots"), filepath.Join(disk, "home")
	sendByHand(t, filepath.Join(destination, taken[2]), folder)
	btrfstest.Run(t, "btrfs", "subvolume", "snapshot", filepath.Join(folder, taken[2]), restored)
	for day := 4; day < 6; day++ {
		write(t, filepath.Join(restored, "file"), string(rune('a'+day)))
		parent := names(t, folder)
		r := backUp(t, exitDone, march(day), "-n", "3", "-f", folder, restored, destination)
		want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+parent[len(parent)-1])
		if day == 4 { // what the source descends from is not needed any more
			btrfstest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(folder, taken[2]))
		}
	}
	want(t, "backups", names(t, destination), taken[2], "20260304-120000", "20260305-120000")
}
