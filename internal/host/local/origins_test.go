package local

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func localWantOrigins(t testing.TB, d *Dir, want host.Origins) {
	t.Helper()
	content, err := d.List(t.Context())
	btrfstest.Check(t, err)
	got, err := host.ParseOrigins(content.Origins)
	btrfstest.Check(t, err)
	if !maps.Equal(got, want) {
		t.Errorf("on record: %v, want %v", got, want)
	}
}

// localBackups makes a folder with complete copies of two snapshots, and gives the UUIDs of these.
func localBackups(t testing.TB) (d *Dir, first, second btrfs.UUID) {
	t.Helper()
	d = newFolder(t)
	top := filepath.Dir(d.status.Path)
	home, snapshots := newSubvolume(t, top, "home"), open(t, d.host, top, "snapshots")
	var uuids []btrfs.UUID
	for _, name := range []string{"first", "second"} {
		taken, err := snapshots.Take(t.Context(), home, info(t, home).UUID, name)
		btrfstest.Check(t, err)
		snapshot := filepath.Join(snapshots.status.Path, name)
		btrfstest.Run(t, "sh", "-c", `btrfs send -q "$1" | btrfs receive -q "$2"`, "sh", snapshot, d.status.Path)
		uuids = append(uuids, taken.UUID)
	}
	return d, uuids[0], uuids[1]
}

func TestOriginsOfBackupsAreOnRecord(t *testing.T) {
	d, first, second := localBackups(t)
	one, two := btrfs.UUID{1}, btrfs.UUID{2}
	localWantOrigins(t, d, nil)
	btrfstest.Check(t, d.records().Add("first", host.Origin{Subvolume: one}, nil))
	localWantOrigins(t, d, host.Origins{first: one})
	btrfstest.Check(t, d.records().Add("second", host.Origin{Subvolume: two}, nil))
	localWantOrigins(t, d, host.Origins{first: one, second: two})
	btrfstest.Check(t, d.records().Add("first", host.Origin{Subvolume: two}, nil))
	localWantOrigins(t, d, host.Origins{first: two, second: two})
	wantNames(t, filepath.Join(d.status.Path, tree.StateDir), filepath.Base(host.AboutFile), filepath.Base(host.OriginsFile))

	btrfstest.Check(t, btrfs.Delete(d.dir, "first"))
	btrfstest.Check(t, d.records().Add("second", host.Origin{Subvolume: two}, nil))
	localWantOrigins(t, d, host.Origins{second: two})
}

func TestRecordOfOriginsIsWrittenOnlyWhenItChanges(t *testing.T) {
	d, _, _ := localBackups(t)
	btrfstest.Check(t, d.records().Add("first", host.Origin{Subvolume: btrfs.UUID{1}}, nil))
	path := filepath.Join(d.status.Path, host.OriginsFile)
	before, err := os.Stat(path)
	btrfstest.Check(t, err)
	btrfstest.Check(t, d.records().Add("first", host.Origin{Subvolume: btrfs.UUID{1}}, nil))
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again, %v", err)
	}
}

func TestRecordOfOriginsThatCannotBeReadIsLeftAlone(t *testing.T) {
	d, _, _ := localBackups(t)
	path := filepath.Join(d.status.Path, host.OriginsFile)
	btrfstest.Check(t, os.Mkdir(filepath.Dir(path), 0o755))
	for _, content := range []string{"", "{", `{"home": "away"}`, `["x"]`} {
		btrfstest.Check(t, os.WriteFile(path, []byte(content), 0o644))
		if got, err := host.ParseOrigins(host.File{Content: []byte(content)}); err == nil {
			t.Errorf("%q is read as %v", content, got)
		}
		btrfstest.Check(t, d.records().Add("first", host.Origin{Subvolume: btrfs.UUID{1}}, nil))
		if after, err := os.ReadFile(path); string(after) != content || err != nil {
			t.Errorf("%q was replaced by %q, %v", content, after, err)
		}
	}
}

func TestWhatABackupTookAndOfWhatItIsAreOnRecord(t *testing.T) {
	d, first, second := localBackups(t)
	of := host.Origin{Subvolume: btrfs.UUID{1}, Origin: tree.Origin{Source: "laptop:/home", Machine: "m"}, Sent: 7, Wire: 5}
	btrfstest.Check(t, d.records().Add("first", of, nil))
	of.Sent, of.Base = 3, first
	btrfstest.Check(t, d.records().Add("second", of, nil))
	content, err := d.List(t.Context())
	btrfstest.Check(t, err)
	_, about, err := content.Recorded("there")
	btrfstest.Check(t, err)
	if about.Name(btrfs.UUID{1}) != "laptop:/home" || about.Sent(first) != 7 || about.Sent(second) != 3 || about.Backups[second].Base != first ||
		time.Since(about.Backups[first].When) > time.Minute {
		t.Errorf("on record: %+v", about)
	}
	btrfstest.Check(t, btrfs.Delete(d.dir, "first"))
	btrfstest.Check(t, d.records().Add("second", of, nil))
	if about, err := host.ParseAbout(d.file(host.AboutFile)); err != nil || about.Sent(first) != 0 || about.Sent(second) != 3 {
		t.Errorf("on record: %+v, %v", about, err)
	}
}

func TestAnotherRecordThatCannotBeReadKeepsNothingFromBeingRecorded(t *testing.T) {
	d, first, _ := localBackups(t)
	path := filepath.Join(d.status.Path, host.AboutFile)
	btrfstest.Check(t, os.Mkdir(filepath.Dir(path), 0o755))
	btrfstest.Check(t, os.WriteFile(path, []byte("{"), 0o644))
	btrfstest.Check(t, d.records().Add("first", host.Origin{Subvolume: btrfs.UUID{1}}, nil))
	localWantOrigins(t, d, host.Origins{first: {1}})
	if after, err := os.ReadFile(path); string(after) != "{" || err != nil {
		t.Errorf("it was replaced by %q, %v", after, err)
	}
}
