package inventory

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
)

var here = local.New(slog.New(slog.DiscardHandler))

func TestWhoNamesNoBackupIsToldWhichThereAre(t *testing.T) {
	t.Parallel()
	top := btrfstest.New(t, 256<<20).Dir
	folder, source := filepath.Join(top, "usb"), filepath.Join(top, "home")
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, top), "home"))
	for _, dir := range []string{folder, source + "/snapshot", top + "/empty"} {
		btrfstest.Check(t, os.MkdirAll(dir, 0o755))
	}
	for _, name := range []string{"20260101-000000", "20260103-000000"} {
		for _, dir := range []string{folder, source + "/snapshot"} {
			btrfstest.Check(t, btrfs.Snapshot(btrfstest.Open(t, source), btrfstest.Open(t, dir), name))
		}
	}
	btrfstest.Check(t, btrfs.Create(btrfstest.Open(t, folder), ".20260104-000000.incoming"))
	for path, want := range map[string][2]string{
		folder:                                {"is a folder of backups", "the newest is " + folder + "/20260103-000000"},
		source:                                {"is a source", "the newest is " + source + "/snapshot/20260103-000000"},
		folder + "/.20260104-000000.incoming": {"is unfinished", "next run"},
		folder + "/20260102-000000":           {"no such file", "there is 20260101-000000"},
		top + "/empty":                        {"is no snapshot or backup", "list " + top},
		top + "/empty/.latest":                {"no such file", "list " + top + "/empty"},
		folder + "/.home_latest":              {"no such file", "list " + folder},
	} {
		_, err := FindVersion(t.Context(), here, path, "snapshot")
		if err == nil || !strings.Contains(err.Error(), want[0]) || !strings.Contains(hint.Of(err), want[1]) {
			t.Errorf("%s: %v, hint: %s", path, err, hint.Of(err))
		}
	}
	if f, err := FindVersion(t.Context(), here, folder+"/20260101-000000/x", "snapshot"); err != nil || f.String() != folder+"/20260101-000000/x" {
		t.Errorf("%s: %v", f, err)
	}

	// Where no link leads to the newest, .latest means it all the same.
	for at, want := range map[string]string{
		folder + "/.latest":   folder + "/20260103-000000",
		folder + "/.latest/x": folder + "/20260103-000000/x",
		source + "/.latest/x": source + "/snapshot/20260103-000000/x",
	} {
		if f, err := FindVersion(t.Context(), here, at, "snapshot"); err != nil || f.String() != want {
			t.Errorf("%s: %s, %v", at, f, err)
		}
	}

	place, err := Look(t.Context(), here, folder, "snapshot")
	btrfstest.Check(t, err)
	for at, want := range map[string]string{"20260103-000000": "20260103-000000", "20260102-235959": "20260101-000000", "20270101-000000": "20260103-000000"} {
		when, err := time.ParseInLocation("20060102-150405", at, time.Local)
		btrfstest.Check(t, err)
		if e, err := place.At(when, ""); err != nil || e.Name != want {
			t.Errorf("at %s: %s, %v", at, e.Name, err)
		}
	}
	_, err = place.At(time.Date(2025, 12, 31, 23, 59, 59, 0, time.Local), "")
	if err == nil || !strings.Contains(hint.Of(err), "the oldest is "+folder+"/20260101-000000") {
		t.Errorf("%v, hint: %s", err, hint.Of(err))
	}
}

func TestAPlaceOnAnotherMachineIsNamedAsItCanBeTyped(t *testing.T) {
	for folder, want := range map[string]string{"ssh://nas/backup": "ssh://nas/backup/x", "/backup": "/backup/x", "/": "/x"} {
		if got := (Place{Folder: folder}).in("x"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
