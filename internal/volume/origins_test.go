package volume

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// listedOrigins lists the folder and parses the record that was in it.
func listedOrigins(t testing.TB, d *Destination) (map[btrfs.UUID]btrfs.UUID, error) {
	t.Helper()
	found, err := d.List(t.Context())
	return found.Origins, err
}

func TestTheOriginsOfBackupsAreOnRecord(t *testing.T) {
	t.Parallel()
	top := btrfstest.New(t, testSize).Dir
	s := openSource(t, newSubvolume(t, top, "home"), "", silent)
	d := openDestination(t, filepath.Join(top, "folder"), silent)
	if got, err := listedOrigins(t, d); len(got) > 0 || err != nil {
		t.Errorf("in an empty folder: %v, %v", got, err)
	}
	sendTwo(t, s, d)
	want := make(map[btrfs.UUID]btrfs.UUID)
	for _, name := range []string{"first", "second"} {
		want[info(t, filepath.Join(s.path, name)).UUID] = s.Subvolume().UUID
	}
	if got, err := listedOrigins(t, d); !maps.Equal(got, want) || err != nil {
		t.Errorf("on record: %v, %v, want %v", got, err, want)
	}
	newer := btrfs.UUID{1}
	record, err := os.ReadFile(filepath.Join(d.path, ".btrfs-backup/about.json"))
	check(t, err)
	about, err := host.ParseAbout(host.File{Content: record})
	check(t, err)
	if name := about.Name(s.Subvolume().UUID); name != host.OriginOf(here, s.sourcePath).Source {
		t.Errorf("the source is %q", name)
	}
	about.Sources[newer] = host.AboutSource{Continues: s.Subvolume().UUID}
	record, err = about.Marshal()
	check(t, err)
	check(t, os.WriteFile(filepath.Join(d.path, ".btrfs-backup/about.json"), record, 0o644))
	for received := range want {
		want[received] = newer
	}
	if got, err := listedOrigins(t, d); !maps.Equal(got, want) || err != nil {
		t.Errorf("after it was continued: %v, %v, want %v", got, err, want)
	}
}

func TestARecordOfOriginsThatCannotBeReadStopsPruningOnly(t *testing.T) {
	t.Parallel()
	d := openDestination(t, filepath.Join(btrfstest.New(t, testSize).Dir, "folder"), silent)
	dir := newDir(t, d.path, ".btrfs-backup")
	for _, file := range []string{"origins.json", "about.json"} {
		for _, content := range []string{"", "{", `{"sources": "away", "home": "away"}`, `["x"]`} {
			check(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
			got, err := d.List(t.Context())
			if err != nil || got.NoPrune == nil || hint.Of(got.NoPrune) == "" || len(got.Origins) > 0 {
				t.Errorf("%s: %q is read as %v, pruning: %v, error: %v", file, content, got.Origins, got.NoPrune, err)
			}
		}
		check(t, os.Remove(filepath.Join(dir, file)))
	}
}
