package main

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestDamagedBackupsAreHealedAndIncrementsGoOn(t *testing.T) {
	t.Parallel()
	source := newSource(t, smallFS(t).Dir, "home")
	disk := smallFS(t)
	destination := filepath.Join(disk.Dir, "backups")
	content := make([]byte, 100_000)
	rand.Read(content)
	write(t, filepath.Join(source, "large\nfile"), string(content))
	taken := series(t, 2, source, destination)
	backup, snapshot := filepath.Join(destination, taken[0]), filepath.Join(source, "snapshot", taken[0])
	damaged := filepath.Join(backup, "large\nfile")

	btrfstest.Damage(t, damaged, 8192)
	repair := []string{"verify", "--repair-from", snapshot, backup}
	expect(t, exitUsage, invoke(t, nil, "verify", "--dry-run", backup), "--dry-run needs --repair-from")
	expect(t, exitUsage, invoke(t, nil, append(repair, "--fast")...), "reads all of a backup")
	expect(t, exitUsage, invoke(t, nil, append(repair, backup)...), "heals one BACKUP")
	expect(t, exitDiffer, invoke(t, nil, "verify", backup), "verify --repair-from SNAPSHOT "+backup)
	expect(t, exitDiffer, invoke(t, nil, append(repair, "--dry-run")...),
		`"large\nfile" at 8192, 4096 bytes: would be put back on /dev/loop`, "1 of 1 damaged places would be healed",
		`shared with "`+filepath.Join(destination, taken[1])+`/large\nfile"`)
	wrong := t.TempDir()
	expect(t, exitDiffer, invoke(t, nil, "verify", "--repair-from", wrong, backup), "not healed: open ", "0 of 1 damaged places healed", "--no-incremental")
	expect(t, exitDone, invoke(t, nil, repair...), "bytes: put back on /dev/loop", "1 of 1 damaged places healed")
	expect(t, exitDone, invoke(t, nil, repair...), "all can be read")

	expect(t, exitDone, invoke(t, nil, "verify", backup)) // which makes a manifest
	btrfstest.Damage(t, damaged, 16384)
	btrfstest.Run(t, "blockdev", "--setro", disk.Device)
	var r struct {
		Damage []struct {
			Way    string
			Healed bool
			Why    string
		}
		Rewritten struct{ Backups []string }
	}
	told := expect(t, exitDone, invoke(t, nil, append(repair, "--json")...))
	btrfstest.Run(t, "blockdev", "--setrw", disk.Device)
	if err := json.Unmarshal([]byte(told.stdout), &r); err != nil || len(r.Damage) != 1 || !r.Damage[0].Healed || r.Damage[0].Way != "extent" ||
		len(r.Rewritten.Backups) != 2 || !strings.Contains(r.Damage[0].Why, "allows no writing") {
		t.Errorf("%v: %s", err, told.stdout)
	}
	for _, name := range taken {
		if got, err := os.ReadFile(filepath.Join(destination, name, "large\nfile")); err != nil || string(got) != string(content) {
			t.Errorf("%s is not whole: %v", name, err)
		}
	}
	manifests := names(t, filepath.Join(destination, ".btrfs-backup", "manifests"))
	if len(manifests) == 0 {
		t.Error("the manifest is gone")
	}
	expect(t, exitDone, invoke(t, nil, "verify", backup), "no differences")
	want(t, "manifests", names(t, filepath.Join(destination, ".btrfs-backup", "manifests")), manifests...)
	write(t, filepath.Join(source, "file"), "new")
	next := backUp(t, exitDone, march(3), source, destination)
	want(t, "transfers", next.to(t, destination).transfers(), next.Snapshot+"<"+taken[1])
	isCopy(t, source, destination, next.Snapshot)
}
