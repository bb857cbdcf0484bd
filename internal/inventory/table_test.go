package inventory

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/tree"
)

func TestAListOfUsualNamesFitsEightyColumns(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.Local)
	size, sent, freed := uint64(1023<<20), int64(1<<20), uint64(1<<10)
	place := Place{Folder: "/mnt/usb/home", Below: []Place{{
		Folder: "/mnt/usb/home/laptop/photos",
		Trees:  tree.Listing{Backups: []tree.Record{{Name: "20261128-013000", Origin: tree.Origin{Source: "laptop:/srv/photos"}}}},
	}}}
	listed := Listed{Short: true, Freed: map[string]uint64{"/mnt/usb/home/laptop/photos": 5 << 20}, Entries: []Entry{
		{Name: "20261128-013000", Time: now.Add(-34 * time.Hour), Kind: Backup, Parent: "20261127-013000", Size: &size, Freed: &size, Notes: []string{"INCOMPLETE: 123 missing"}},
		{Name: ".20261129-013000.incoming", Kind: Unfinished, UUID: btrfs.UUID{1}, Notes: []string{"unfinished"}},
		{Name: "20261129-013000", Time: now.Add(-10 * time.Hour), Kind: Backup, Parent: "20261127-013000", Sent: &sent, Freed: &freed, Notes: []string{"newest", "parent of the next"}},
	}}
	for _, table := range []Table{{}, {UUID: true, Wide: true}, {Wide: true}} {
		var b strings.Builder
		table.W, table.Now = &b, now
		btrfstest.Check(t, table.Write(place, listed))
		narrow := !table.UUID && !table.Wide
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(line) - 1; n > 80 && narrow {
				t.Errorf("%d columns: %s", n, line)
			}
		}
		wants := []string{"2 backups, 1 other, 1 folder of backups", "--space\n"}
		if narrow {
			wants = append(wants, "AGE   SENT     FREED    PARENT           NOTE\n", "  34 h  -        1.0 GiB  20261127-013000  INCOMPLETE: 123\n",
				"\n20261129-013000  -     -        -        -                unfinished\n", "  newest,\n", strings.Repeat(" ", 58)+"parent of the next\n",
				"laptop/photos  laptop:/srv/photos (rsync)  1        2026-11-28  2026-11-28\n")
		} else {
			wants = append(wants, "  FREED IF DELETED  ", "newest, parent of the next\n", "  2026-11-28  2026-11-28 01:30  5.0 MiB\n", "01000000-0000-0000-0000-000000000000")
		}
		for _, want := range wants {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in:\n%s", want, b.String())
			}
		}
	}
}
