package inventory

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/received"
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
		{Name: "20261129-013000", Time: now.Add(-10 * time.Hour), Kind: Backup, Parent: "20261127-013000", Sent: &sent, Freed: &freed, Notes: []string{"newest", "next parent"}},
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
				"\n20261129-013000  -     -        -        -                unfinished\n", "  newest, next parent\n",
				"laptop/photos  laptop:/srv/photos (rsync)  1        2026-11-28  2026-11-28\n")
		} else {
			wants = append(wants, "  FREED IF DELETED  ", "newest, next parent\n", "  2026-11-28  2026-11-28 01:30  5.0 MiB\n", "01000000-0000-0000-0000-000000000000")
		}
		for _, want := range wants {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in:\n%s", want, b.String())
			}
		}
	}
}

func TestAListOfAStoreFitsEightyColumnsAndTellsWhatIsStored(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, of, head string }{
		{"laptop_home", "laptop:/home", "FOLDER       OF            BACKUPS  OLDEST      NEWEST            STORED"},
		{"workstation_home", "workstation:/home", "FOLDER            OF                 BACKUPS  OLDEST      NEWEST      STORED"},
		{"workstation_srv_photos_raw", "workstation:/srv/photos/raw", "FOLDER                      BACKUPS  OLDEST      NEWEST      STORED"},
		{"9d0c0e5f3b1a4c0d8e7f6a5b4c3d2e1f", "laptop:/home", "FOLDER                            OF            BACKUPS  NEWEST      STORED"},
		{strings.Repeat("9d0c0e5f", 4), "laptop:/srv/virtual", "FOLDER                            OF                   NEWEST      STORED"},
	} {
		place := Place{Folder: "s3://bucket/pc", Stored: true, Below: []Place{{Folder: "s3://bucket/pc/" + test.name, Stored: true,
			Streams: &Streams{Source: test.of, Content: []Entry{{Name: "20261128-013000", Kind: Backup, Time: time.Date(2026, 11, 28, 1, 30, 0, 0, time.Local)}}}}}}
		var b strings.Builder
		btrfstest.Check(t, Table{W: &b}.Write(place, Listed{Freed: map[string]uint64{"s3://bucket/pc/" + test.name: 1 << 30}}))
		lines := strings.Split(b.String(), "\n")
		if lines[1] != test.head || !strings.HasSuffix(lines[2], "1.0 GiB") || len(lines[1]) > 80 || len(lines[2]) > 80 {
			t.Errorf("%d columns:\n%s", len(lines[2]), b.String())
		}
	}
}

func TestWhatWasVerifiedAndWhatNoStreamHoldsIsNoted(t *testing.T) {
	t.Parallel()
	at, files := time.Date(2026, 11, 20, 12, 0, 0, 0, time.Local), int64(3)
	uuids := []btrfs.UUID{{1}, {2}, {3}}
	about, err := host.About{Backups: map[btrfs.UUID]host.AboutBackup{{13}: {Sent: 5, Attributes: &files}}}.Marshal()
	btrfstest.Check(t, err)
	p := Place{Folder: "/x", Content: host.Content{About: host.File{Content: about}, Verified: map[string]received.Verification{
		"20261101-000000": {At: at, Whole: true}, "20261102-000000": {At: at, Differences: 1}, "20261103-000000": {At: at}}}}
	for i, uuid := range uuids {
		p.InDirectory = append(p.InDirectory, btrfs.Subvolume{Name: fmt.Sprintf("2026110%d-000000", i+1), UUID: uuid, ParentUUID: append(uuids, btrfs.UUID{})[(i+3)%4], ReceivedUUID: btrfs.UUID{uuid[0] + 10},
			ReadOnly: true, CreatedIn: uint64(i), ReceivedIn: uint64(i), SentIn: uint64(i + 1)})
	}
	p.All = p.InDirectory
	entries, err := p.Noted("")
	btrfstest.Check(t, err)
	for i, want := range []string{"verified 2026-11-20", "DAMAGED, as verified 2026-11-20", "newest, next parent, chattr of 3 files"} {
		if got := strings.Join(entries[i].Notes, ", "); got != want {
			t.Errorf("%s: %q, want %q", entries[i].Name, got, want)
		}
	}
	if entries[2].Sent == nil || *entries[2].Sent != 5 || entries[0].Sent != nil {
		t.Errorf("sent: %+v", entries)
	}
}
