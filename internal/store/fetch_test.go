package store

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

func TestNothingIsReadBehindADamagedPart(t *testing.T) {
	f := newFixture(t)
	b := f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader))
	for name, damage := range map[string]func(path string, content []byte) error{
		"flipped": func(path string, content []byte) error {
			content[len(content)/2] ^= 1
			return os.WriteFile(path, content, 0o600)
		},
		"truncated": func(path string, content []byte) error { return os.Truncate(path, int64(len(content)-1)) },
		"missing":   func(path string, _ []byte) error { return os.Remove(path) },
	} {
		path := filepath.Join(f.dir, partKey(b.Dir, dataName, 3))
		content, err := os.ReadFile(path)
		must(t, err)
		must(t, damage(path, append([]byte(nil), content...)))
		r := f.store.Stream(t.Context(), &b.Manifest, f.ids)
		var of *PartError
		if _, err := sendstream.Copy(io.Discard, r); !errors.Is(err, ErrDamaged) || !errors.As(err, &of) || of.Backup.Name != b.Name {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := r.Read(make([]byte, 10)); n > 0 || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: behind it, %d bytes are read, %v", name, n, err)
		}
		must(t, r.Close())
		must(t, os.WriteFile(path, content, 0o600))
	}
}
