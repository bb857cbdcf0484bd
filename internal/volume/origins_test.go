package volume

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/engine"
)

type origins = map[btrfs.UUID]btrfs.UUID

func wantOrigins(t testing.TB, d *Destination, want origins) {
	t.Helper()
	got, err := d.Origins(t.Context())
	check(t, err)
	if !maps.Equal(got, want) {
		t.Errorf("on record: %v, want %v", got, want)
	}
}

// newBackups makes a folder with complete copies of two snapshots, and gives the UUIDs of these.
func newBackups(t testing.TB) (d *Destination, first, second btrfs.UUID) {
	t.Helper()
	top := btrfstest.New(t, testSize).Dir
	s := openSource(t, newSubvolume(t, top, "home"), "", silent)
	d = openDestination(t, filepath.Join(top, "folder"), silent)
	var uuids []btrfs.UUID
	for _, name := range []string{"first", "second"} {
		taken, err := s.Take(t.Context(), name)
		check(t, err)
		copyTo(t, d.path, filepath.Join(s.path, name))
		uuids = append(uuids, taken.UUID)
	}
	return d, uuids[0], uuids[1]
}

func TestOriginsOfBackupsAreOnRecord(t *testing.T) {
	d, first, second := newBackups(t)
	one, two := btrfs.UUID{1}, btrfs.UUID{2}
	wantOrigins(t, d, nil)
	check(t, d.recordOrigin(t.Context(), "first", one))
	wantOrigins(t, d, origins{first: one})
	check(t, d.recordOrigin(t.Context(), "second", two))
	wantOrigins(t, d, origins{first: one, second: two})
	check(t, d.recordOrigin(t.Context(), "first", two))
	wantOrigins(t, d, origins{first: two, second: two})
	wantNames(t, filepath.Join(d.path, filepath.Dir(originsFile)), filepath.Base(originsFile))

	check(t, btrfs.Delete(d.dir, "first"))
	check(t, d.recordOrigin(t.Context(), "second", two))
	wantOrigins(t, d, origins{second: two})
}

func TestTheRecordOfOriginsIsWrittenOnlyWhenItChanges(t *testing.T) {
	d, _, _ := newBackups(t)
	check(t, d.recordOrigin(t.Context(), "first", btrfs.UUID{1}))
	path := filepath.Join(d.path, originsFile)
	before, err := os.Stat(path)
	check(t, err)
	check(t, d.recordOrigin(t.Context(), "first", btrfs.UUID{1}))
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again, %v", err)
	}
}

func TestARecordOfOriginsThatCannotBeReadIsLeftAlone(t *testing.T) {
	d, _, _ := newBackups(t)
	path := filepath.Join(d.path, originsFile)
	newDir(t, filepath.Dir(path))
	for _, content := range []string{"", "{", `{"home": "away"}`, `["x"]`} {
		check(t, os.WriteFile(path, []byte(content), 0o644))
		if got, err := d.Origins(t.Context()); err == nil || engine.HintOf(err) == "" {
			t.Errorf("%q is read as %v, error: %v", content, got, err)
		}
		if err := d.recordOrigin(t.Context(), "first", btrfs.UUID{1}); err == nil {
			t.Errorf("recorded although the record is %q", content)
		}
		if after, err := os.ReadFile(path); string(after) != content || err != nil {
			t.Errorf("%q was replaced by %q, %v", content, after, err)
		}
	}
}
