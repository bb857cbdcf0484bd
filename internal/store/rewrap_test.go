package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// newKey gives a secret key, and what is encrypted for it.
func newKey(t *testing.T) (*age.X25519Identity, seal.Recipients) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	recipients, err := seal.ParseRecipients(strings.NewReader(identity.Recipient().String()))
	must(t, err)
	return identity, recipients
}

// byHand reads a backup with the stock programs.
func (f *fixture) byHand(dir, secret string) ([]byte, error) {
	key := filepath.Join(f.TempDir(), "key")
	must(f, os.WriteFile(key, []byte(secret), 0o600))
	return exec.Command("sh", "-c", "cd "+f.dir+"/"+dir+" && for p in data.*; do age -d -i "+key+" $p || exit 1; done | zstd -dc").Output()
}

func TestANewKeyReadsWhatIsRewrapped(t *testing.T) {
	f := newFixture(t)
	want := map[string][]byte{"20260101-000000": stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader),
		"20260102-000000": stream(btrfs.UUID{2}, btrfs.UUID{1}, 100<<10, rand.Reader)}
	f.save("20260101-000000", want["20260101-000000"])
	f.save("20260102-000000", want["20260102-000000"])
	old := f.ids
	identity, recipients := newKey(t)
	var err error
	f.store, err = Open(t.Context(), f.folder, f.options)
	must(t, err)
	f.store.Recipients = recipients
	if _, err := f.store.Rewrap(t.Context(), "host_home", &f.catalog().Backups[0], seal.Identities{identity}); err == nil {
		t.Error("a key rewraps what it cannot read")
	}

	errGone := errors.New("the server is gone")
	f.failAfter(5, errGone)
	if _, err := f.store.Rewrap(t.Context(), "host_home", &f.catalog().Backups[0], old); !errors.Is(err, errGone) {
		t.Fatalf("it ended with %v", err)
	}
	const enough = 1000
	f.failAfter(enough, nil)
	c := f.catalog()
	for i := range c.Backups {
		b := &c.Backups[i]
		made, err := f.store.Rewrap(t.Context(), "host_home", b, old)
		must(t, err)
		if !f.store.IsFor(made) || f.store.IsFor(b) {
			t.Error("it is not known for whom a backup is")
		}
		got, err := f.byHand(made.Dir, identity.String())
		if err != nil || !bytes.Equal(got, want[b.Name]) {
			t.Errorf("%s: by the new key %d bytes came back in place of %d: %v", b.Name, len(got), len(want[b.Name]), err)
		}
		if _, err := f.byHand(made.Dir, f.key); err == nil {
			t.Errorf("%s: the old key reads what is new", b.Name)
		}
	}
	const others = 2 * 2 // manifests and indexes
	copied := enough - int(f.store.bucket.(*failing).puts.Load()) - others
	all := 0
	for _, b := range c.Backups {
		all += len(b.objects())
	}
	if copied != all-5 {
		t.Errorf("%d of %d objects were copied, and 5 were there", copied, all)
	}
	if c := f.catalog(); len(c.Backups) != 2 || len(c.Rest) != 2 || !c.Rest[0].Superseded || !f.store.IsFor(&c.Backups[0]) {
		t.Fatalf("%d backups, and %+v", len(c.Backups), c.Rest)
	}
	for _, r := range f.catalog().Rest {
		must(t, f.store.DeleteRest(t.Context(), r))
	}
	must(t, f.store.Announce(t.Context()))
	f.ids = seal.Identities{identity}
	f.options.Recipients = recipients
	s, err := Open(t.Context(), f.folder, f.options)
	must(t, err)
	f.expect(s, want)
	if there, here := s.OtherRecipients(); len(there)+len(here) > 0 {
		t.Errorf("%q, and %q", there, here)
	}
	canary, err := s.Canary(t.Context())
	must(t, err)
	if of, err := seal.TestCanary(canary, f.ids); err != nil || len(of) != 1 {
		t.Errorf("the new key on the canary: %v, %v", of, err)
	}
	b := f.catalog().Backups[1]
	if p, err := b.Private(f.ids); err != nil || p.Host != "host" {
		t.Errorf("%+v, %v", p, err)
	}
	r := s.Stream(t.Context(), &b.Manifest, old)
	if _, err := io.ReadAll(r); err == nil {
		t.Error("the old key reads")
	}
	must(t, r.Close())
	if f.save("20260103-000000", stream(btrfs.UUID{3}, btrfs.UUID{2}, 1<<10, rand.Reader)); !f.store.IsFor(&f.catalog().Backups[2]) {
		t.Error("what is stored from now on is for others")
	}
}
