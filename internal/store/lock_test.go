package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// recording is a bucket that notes how objects are stored.
type recording struct {
	object.Bucket
	mu      sync.Mutex
	options map[string]object.PutOptions
}

func (b *recording) Put(ctx context.Context, key string, content []byte, o object.PutOptions) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.options[key] = o
	return b.Bucket.Put(ctx, key, content, o)
}

func TestPartsAndManifestsAreLockedAndPartsHaveAClass(t *testing.T) {
	f := newFixture(t)
	b := &recording{Bucket: f.folder, options: make(map[string]object.PutOptions)}
	f.store.bucket = b
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	u, err := f.store.Begin(t.Context(), Order{Source: "host_home", Name: "20260101-000000", Key: "k", Until: until, Class: "COLD"})
	must(t, err)
	_, err = u.Write(stream(btrfs.UUID{1}, btrfs.UUID{}, 300<<10, rand.Reader))
	must(t, err)
	_, err = u.Close()
	must(t, err)
	_, err = u.Commit(t.Context(), btrfs.UUID{9}, time.Now(), Private{})
	must(t, err)
	must(t, f.store.Announce(t.Context()))
	for key, o := range b.options {
		isBackup, isManifest := strings.HasPrefix(key, backupsPrefix), strings.HasSuffix(key, manifestName)
		if o.Until.IsZero() == isBackup || isBackup && !o.Until.Equal(until) || (o.Class == "COLD") != (isBackup && !isManifest) {
			t.Errorf("%s is stored with %+v", key, o)
		}
	}
	if len(b.options) < 8 {
		t.Errorf("%d objects", len(b.options))
	}
	if got := f.catalog().Backups[0].Locked; !got.Equal(until) {
		t.Errorf("the manifest tells of a lock until %s", got)
	}
}

func TestAForgedIndexHidesNothing(t *testing.T) {
	f := newFixture(t)
	want := stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader)
	b := f.save("20260101-000000", want)
	i, err := f.store.readIndex(t.Context(), "host_home")
	must(t, err)
	forger := newFixture(t)
	forged := b.Manifest
	forged.Signer = forger.options.Signer.PublicKey()
	line, err := json.Marshal(forged)
	must(t, err)
	entry := append(append(line, '\n'), forger.options.Signer.Sign(line, forged.Dir)...)
	if len(entry) != len(i.manifests[b.Dir]) {
		t.Fatalf("the forged entry has %d bytes, and the other %d", len(entry), len(i.manifests[b.Dir]))
	}
	for what, manifests := range map[string]map[string][]byte{
		"by another key": {b.Dir: entry}, "junk": {b.Dir: bytes.Repeat([]byte{1}, len(entry))}, "of another": {"backups/host_home/x.00000000/": i.manifests[b.Dir]},
	} {
		content, err := (&index{manifests: maps.Clone(manifests)}).encode()
		must(t, err)
		must(t, f.folder.Put(t.Context(), indexPrefix+"host_home", content, object.PutOptions{Replace: true}))
		s, err := Open(t.Context(), f.folder, f.options)
		must(t, err)
		f.expect(s, map[string][]byte{"20260101-000000": want})
		if t.Failed() {
			t.Fatal(what)
		}
	}
}
