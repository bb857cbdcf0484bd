package store

import (
	"crypto/rand"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

func TestEachAlteredOrMissingObjectIsFound(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 300<<10, rand.Reader))
	b := &f.catalog().Backups[0]
	objects := []string{manifestName}
	for _, o := range b.objects() {
		objects = append(objects, path.Base(o.key))
	}
	if len(objects) < 4 {
		t.Fatalf("only %q", objects)
	}
	for _, download := range []bool{false, true} {
		v, err := f.store.Verify(t.Context(), b, Check{Download: download})
		must(t, err)
		if len(v.Damaged) > 0 || v.Objects != len(objects)-1 || v.Bytes != b.Stored() || v.Unproved != 0 {
			t.Errorf("whole: %+v", v)
		}
		for _, name := range objects {
			file := filepath.Join(f.dir, b.Dir, name)
			content, err := os.ReadFile(file)
			must(t, err)
			flipped := slices.Clone(content)
			flipped[len(flipped)/2] ^= 1
			for what, altered := range map[string][]byte{"a bit": flipped, "its end": content[:len(content)-10], "all of it": nil} {
				if altered == nil {
					must(t, os.Remove(file))
				} else {
					must(t, os.WriteFile(file, altered, 0o600))
				}
				v, err := f.store.Verify(t.Context(), b, Check{Download: download})
				must(t, err)
				if len(v.Damaged) != 1 || v.Damaged[0].Object != name || v.Damaged[0].Gone != (altered == nil) || v.Damaged[0].Why == "" {
					t.Errorf("%s of %s is other (download %v): %+v", what, name, download, v)
				}
			}
			must(t, os.WriteFile(file, content, 0o600))
		}
	}
}

func TestAllObjectsAreFetchedWithinTheDaysOfASubset(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 2<<20, rand.Reader))
	b := &f.catalog().Backups[0]
	must(t, os.WriteFile(filepath.Join(f.dir, partKey(b.Dir, dataName, 3)), make([]byte, b.Parts[3].Size), 0o600))
	objects, days := 0, 0
	for day := range 30 {
		part, err := tree.ParsePart("1/30", time.Date(2026, 6, day+1, 12, 0, 0, 0, time.UTC))
		must(t, err)
		v, err := f.store.Verify(t.Context(), b, Check{Download: true, Takes: part.Has})
		must(t, err)
		objects += v.Objects
		days += len(v.Damaged)
	}
	if want := len(b.objects()) - 1; objects != want || days != 1 {
		t.Errorf("%d of %d objects were whole, and one was damaged on %d days", objects, want, days)
	}
}

func TestDamageIsRememberedUntilItIsHealed(t *testing.T) {
	f := newFixture(t)
	content := stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader)
	first := f.save("20260101-000000", content)
	c := f.catalog()
	f.record(c, true)
	if faults := f.catalog().Backups[0].Faults; len(faults) != 1 {
		t.Errorf("faults %q", faults)
	}
	f.save("20260101-000000", content)
	c = f.catalog()
	if len(c.Backups) != 1 || c.Backups[0].Dir == first.Dir || len(c.Backups[0].Faults) > 0 || len(c.Rest) != 1 || !c.Rest[0].Superseded {
		t.Errorf("stored once more: %+v", c)
	}
	f.record(c, false)
	if f.catalog().Backups[0].Verified.IsZero() {
		t.Error("it was not verified")
	}
}

func TestWhatIsLostWithABackupIsTold(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 4096, rand.Reader))
	f.save("20260102-000000", stream(btrfs.UUID{2}, btrfs.UUID{1}, 4096, rand.Reader))
	f.save("20260103-000000", stream(btrfs.UUID{3}, btrfs.UUID{2}, 4096, rand.Reader))
	f.save("20260104-000000", stream(btrfs.UUID{4}, btrfs.UUID{1}, 4096, rand.Reader))
	c := f.catalog()
	if lost := c.BuildOn(&c.Backups[1]); !slices.Equal(lost, []string{"20260103-000000"}) {
		t.Errorf("with the second: %q", lost)
	}
	if lost := c.BuildOn(&c.Backups[0]); len(lost) != 3 {
		t.Errorf("with the first: %q", lost)
	}
}

func TestAServerTellsChecksumsAndAnOlderVersionCounts(t *testing.T) {
	server := objecttest.Start(t, objecttest.Options{Versions: true})
	f := newFixture(t)
	bucket, err := object.OpenS3(t.Context(), server.VersionedBucket(t, "verified"), object.S3Options{Log: f.options.Log, Patience: 2 * time.Second,
		Silence: 2 * time.Second, Credentials: object.Credentials{File: objecttest.Credentials(t, objecttest.Key, objecttest.Secret)}})
	must(t, err)
	defer bucket.Close()
	f.store, err = Create(t.Context(), bucket, f.options)
	must(t, err)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 300<<10, rand.Reader))
	b := &f.catalog().Backups[0]
	before := server.Counts()["get"]
	v, err := f.store.Verify(t.Context(), b, Check{})
	must(t, err)
	if len(v.Damaged) > 0 || v.Objects != len(b.objects()) || v.Unproved > 0 {
		t.Errorf("%+v", v)
	}
	if gets := server.Counts()["get"] - before; gets > 1 { // the manifest
		t.Errorf("%d objects were fetched", gets)
	}
	must(t, bucket.Put(t.Context(), partKey(b.Dir, dataName, 0), []byte("what a thief put there"), object.PutOptions{Replace: true}))
	if v, err = f.store.Verify(t.Context(), b, Check{}); err != nil || len(v.Damaged) > 0 {
		t.Errorf("the first version is whole: %+v, %v", v, err)
	}
	server.Stop()
	if _, err := f.store.Verify(t.Context(), b, Check{}); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("a server that is away: %v", err)
	}
}

// record remembers what a verification found of the first backup.
func (f *fixture) record(c *Catalog, damaged bool) {
	f.Helper()
	there := func(string) bool { return true }
	must(f, lock.State{Dir: f.options.State}.SetVerified(f.Context(), f.store.ID+" "+c.Source, map[string]lock.Verified{
		path.Base(c.Backups[0].Dir): {At: time.Now(), Damaged: damaged}}, there))
}
