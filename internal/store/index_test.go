package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// reads counts what is read of a bucket.
type reads struct {
	object.Bucket
	keys []string
}

func (r *reads) Get(ctx context.Context, ref object.Ref, offset, length int64) (io.ReadCloser, error) {
	r.keys = append(r.keys, ref.Key)
	return r.Bucket.Get(ctx, ref, offset, length)
}

func (f *fixture) indexFile() string { return filepath.Join(f.dir, "index", "host_home") }

// An index is a copy: whatever becomes of it, nothing is lost, and the next backup makes it anew, as a whole.
func TestAnIndexIsMadeAnew(t *testing.T) {
	spoil := func(change func(content []byte) []byte) func(path string) error {
		return func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, change(content), 0o600)
		}
	}
	for name, harm := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   spoil(func([]byte) []byte { return nil }),
		"cut":     spoil(func(c []byte) []byte { return c[:len(c)/2] }),
		"no tar":  spoil(func(c []byte) []byte { return bytes.Repeat([]byte("x"), len(c)) }),
		"a letter of a manifest changed": spoil(func(c []byte) []byte {
			return bytes.Replace(c, []byte(`"name":"20260101-000000"`), []byte(`"name":"20260101-000001"`), 1)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader))
			f.save("20260102-000000", stream(btrfs.UUID{2}, btrfs.UUID{1}, 100<<10, rand.Reader))
			must(t, harm(f.indexFile()))
			f.holds("20260101-000000", "20260102-000000")
			f.save("20260103-000000", stream(btrfs.UUID{3}, btrfs.UUID{2}, 100<<10, rand.Reader))
			counted := &reads{Bucket: f.folder}
			f.store.bucket = counted
			f.holds("20260101-000000", "20260102-000000", "20260103-000000")
			if len(counted.keys) != 1 {
				t.Errorf("listing read %v", counted.keys)
			}
		})
	}
}

// holds fails the test unless these are the backups, all of them whole.
func (f *fixture) holds(names ...string) {
	f.Helper()
	c := f.catalog()
	for i, b := range c.Backups {
		if len(b.Faults) > 0 || i >= len(names) || b.Name != names[i] {
			f.Errorf("%s: %v", b.Name, b.Faults)
		}
	}
	if len(c.Backups) != len(names) || len(c.Rest) > 0 {
		f.Errorf("%d backups in place of %d, %d others", len(c.Backups), len(names), len(c.Rest))
	}
}

// Another machine whose source has the same name changes the index meanwhile.
func TestAnIndexThatChangedMeanwhileIsReadAgain(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader))
	f.catalog()
	other := *f
	other.options.State = t.TempDir()
	var err error
	other.store, err = Open(t.Context(), f.folder, other.options)
	must(t, err)
	other.save("20260102-000000", stream(btrfs.UUID{2}, btrfs.UUID{1}, 100<<10, rand.Reader))
	f.save("20260103-000000", stream(btrfs.UUID{3}, btrfs.UUID{1}, 100<<10, rand.Reader))
	counted := &reads{Bucket: f.folder}
	f.store.bucket = counted
	f.holds("20260101-000000", "20260102-000000", "20260103-000000")
	if len(counted.keys) != 1 {
		t.Errorf("listing read %v", counted.keys)
	}
}

func TestAnIndexOfAnotherSourceTellsOfNothing(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 10<<10, rand.Reader))
	content, err := os.ReadFile(f.indexFile())
	must(t, err)
	must(t, os.WriteFile(filepath.Join(f.dir, "index", "host_other"), content, 0o600))
	c, err := f.store.Catalog(t.Context(), "host_other")
	must(t, err)
	for _, b := range c.Backups {
		t.Errorf("a backup of another source: %s %v", b.Dir, b.Faults)
	}
	if c, err = f.store.Indexed(t.Context(), "host_other"); err != nil || len(c.Backups) > 0 {
		t.Errorf("the index tells of %d backups: %v", len(c.Backups), err)
	}
}

func TestASourceWhoseIndexIsLostIsFound(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 10<<10, rand.Reader))
	must(t, os.Remove(f.indexFile()))
	must(t, os.WriteFile(filepath.Join(f.dir, "index", "host_other"), nil, 0o600))
	if all, err := f.store.AllSources(t.Context()); err != nil || !slices.Equal(all, []string{"host_home", "host_other"}) {
		t.Errorf("%q, %v", all, err)
	}
}
