package store

import (
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

func TestBackupsAreInTheOrderInWhichTheyWereStoredWhateverTheClockTells(t *testing.T) {
	f := newFixture(t)
	saved := func(n byte, made time.Time) *Backup {
		t.Helper()
		name := "2026010" + string('0'+rune(n)) + "-000000"
		u, err := f.store.Begin(t.Context(), Order{Source: "host_home", Name: name, Key: name})
		must(f, err)
		_, err = u.Write(stream(btrfs.UUID{n}, btrfs.UUID{}, 4096, strings.NewReader(name)))
		must(f, err)
		_, err = u.Close()
		must(f, err)
		b, err := u.Commit(t.Context(), btrfs.UUID{9}, made, Private{})
		must(f, err)
		return b
	}
	now := time.Now()
	old := saved(1, now).Manifest
	old.Sequence = 0 // as earlier versions stored it
	content, err := f.store.encode(&old)
	must(f, err)
	must(f, f.store.bucket.Put(t.Context(), old.Dir+manifestName, content, object.PutOptions{Replace: true}))
	must(f, f.store.changeIndex(t.Context(), "host_home", func(manifests map[string][]byte) { manifests[old.Dir] = content }))
	for n := range byte(3) { // while the clock goes back
		f.catalog()
		saved(2+n, now.Add(-time.Duration(n+1)*time.Hour))
	}
	indexed, err := f.store.Indexed(t.Context(), "host_home")
	must(f, err)
	for _, c := range []*Catalog{f.catalog(), indexed} {
		for i, b := range c.Backups {
			if b.UUID != (btrfs.UUID{byte(i + 1)}) || b.Sequence != uint64(i) {
				t.Errorf("number %d is %s, with the sequence %d", i, b.Name, b.Sequence)
			}
		}
	}
}
