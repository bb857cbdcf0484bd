package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// fixture is a store in a folder, with a secret key.
type fixture struct {
	*testing.T
	dir     string
	folder  *object.Folder
	key     string
	ids     seal.Identities
	options Options
	store   *Store
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	recipients, err := seal.ParseRecipients(strings.NewReader(identity.Recipient().String()))
	must(t, err)
	signer, err := seal.LoadSigner(filepath.Join(t.TempDir(), "signing.key"))
	must(t, err)
	f := &fixture{T: t, dir: t.TempDir(), key: identity.String(), ids: seal.Identities{identity}}
	f.folder, err = object.OpenFolder(f.dir, "store:"+f.dir)
	must(t, err)
	t.Cleanup(func() { f.folder.Close() })
	f.options = Options{Log: slog.New(slog.DiscardHandler), Recipients: recipients, Signer: signer, State: t.TempDir(), PartSize: 64 << 10,
		Trusts: func(key string) bool { return key == signer.PublicKey() }}
	f.store, err = Create(t.Context(), f.folder, f.options)
	must(t, err)
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stream makes a stream of so many bytes of content.
func stream(uuid, parent btrfs.UUID, size int, content io.Reader) []byte {
	var head []byte
	if parent.IsZero() {
		head = streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"), streamtest.UUID(sendstream.AttrUUID, uuid),
			streamtest.Number(sendstream.AttrCtransid, 7))
	} else {
		head = streamtest.Encode(sendstream.CmdSnapshot, streamtest.Text(sendstream.AttrPath, "x"), streamtest.UUID(sendstream.AttrUUID, uuid),
			streamtest.Number(sendstream.AttrCtransid, 7), streamtest.UUID(sendstream.AttrCloneUUID, parent),
			streamtest.Number(sendstream.AttrCloneCtransid, 7))
	}
	commands := [][]byte{head, streamtest.Makes(sendstream.CmdMkfile, "file")}
	for range size / 4096 {
		data := make([]byte, 4096)
		_, _ = io.ReadFull(content, data)
		commands = append(commands, streamtest.Write("file", string(data)))
	}
	return streamtest.Stream(1, commands...)
}

// save stores a stream.
func (f *fixture) save(name string, content []byte) *Backup {
	f.Helper()
	u, err := f.store.Begin(f.Context(), Order{Source: "host_home", Name: name, Key: name})
	must(f, err)
	_, err = u.Write(content)
	must(f, err)
	_, err = u.Close()
	must(f, err)
	b, err := u.Commit(f.Context(), btrfs.UUID{9}, time.Now(), Private{Host: "host", Path: "/home"})
	must(f, err)
	return b
}

func (f *fixture) catalog() *Catalog {
	f.Helper()
	c, err := f.store.Catalog(f.Context(), "host_home")
	must(f, err)
	return c
}

func TestWhatWasStoredComesBack(t *testing.T) {
	f := newFixture(t)
	first := stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader)
	second := stream(btrfs.UUID{2}, btrfs.UUID{1}, 300<<10, strings.NewReader(strings.Repeat("much of the same ", 1<<15)))
	f.save("20260101-000000", first)
	f.save("20260102-000000", second)
	c := f.catalog()
	if len(c.Backups) != 2 || len(c.Rest) != 0 {
		t.Fatalf("%d backups, %d others", len(c.Backups), len(c.Rest))
	}
	for i, want := range [][]byte{first, second} {
		b := c.Backups[i]
		if len(b.Faults) > 0 {
			t.Errorf("%s: %v", b.Name, b.Faults)
		}
		r := f.store.Stream(t.Context(), &b.Manifest, f.ids)
		got, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back in place of %d", b.Name, len(got), len(want))
		}
		p, err := b.Private(f.ids)
		must(t, err)
		if p.Host != "host" || p.Path != "/home" {
			t.Errorf("it is of %s:%s", p.Host, p.Path)
		}
	}
	chain, missing := c.Chain(&c.Backups[1])
	if len(chain) != 2 || chain[0].Name != "20260101-000000" || !missing.IsZero() {
		t.Errorf("the chain is %v, and %s is missing", chain, missing)
	}
	if n := len(c.Backups[0].Parts); n < 10 {
		t.Errorf("%d parts", n)
	}
	if c.Backups[1].Stored() > 50<<10 {
		t.Errorf("%d bytes were stored of what can be compressed", c.Backups[1].Stored())
	}
}

func TestStockProgramsReadABackup(t *testing.T) {
	f := newFixture(t)
	want := stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader)
	b := f.save("20260101-000000", want)
	key := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(key, []byte(f.key), 0o600))
	got, err := exec.Command("sh", "-c", fmt.Sprintf("cd %s/%s && for p in data.*; do age -d -i %s $p || exit 1; done | zstd -dc", f.dir, b.Dir, key)).Output()
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back in place of %d", len(got), len(want))
	}
}

// failing is a bucket that stores so many objects.
type failing struct {
	object.Bucket
	puts atomic.Int32
	err  error
}

func (f *fixture) failAfter(puts int32, err error) {
	b := &failing{Bucket: f.folder, err: err}
	b.puts.Store(puts)
	f.store.bucket = b
}

func (b *failing) Put(ctx context.Context, key string, content []byte, o object.PutOptions) error {
	if b.puts.Add(-1) < 0 {
		return b.err
	}
	return b.Bucket.Put(ctx, key, content, o)
}

func TestAnUploadGoesOnWhereItWas(t *testing.T) {
	f := newFixture(t)
	content := stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader)
	errGone := errors.New("the server is gone")
	f.failAfter(5, errGone)
	o := Order{Source: "host_home", Name: "20260101-000000", Key: "k"}
	u, err := f.store.Begin(t.Context(), o)
	must(t, err)
	if _, err := u.Write(content); !errors.Is(err, errGone) {
		_, err = u.Close()
		if !errors.Is(err, errGone) {
			t.Fatalf("it ended with %v", err)
		}
	}
	must(t, u.Stop())
	if c := f.catalog(); len(c.Backups) != 0 || len(c.Rest) != 1 || c.Rest[0].Name != o.Name {
		t.Fatalf("%+v", c)
	}
	f.store.bucket = f.folder
	u, err = f.store.Begin(t.Context(), o)
	must(t, err)
	_, err = u.Write(content)
	must(t, err)
	_, err = u.Close()
	must(t, err)
	if u.Kept() != 5 {
		t.Errorf("%d objects were kept", u.Kept())
	}
	b, err := u.Commit(t.Context(), btrfs.UUID{9}, time.Now(), Private{})
	must(t, err)
	got, err := io.ReadAll(f.store.Stream(t.Context(), &b.Manifest, f.ids))
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("something else came back")
	}
	if c := f.catalog(); len(c.Backups) != 1 || len(c.Rest) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestAnUploadForOtherRecipientsBeginsAnew(t *testing.T) {
	f := newFixture(t)
	content := stream(btrfs.UUID{1}, btrfs.UUID{}, 500<<10, rand.Reader)
	u, err := f.store.Begin(t.Context(), Order{Source: "host_home", Name: "20260101-000000", Key: "20260101-000000"})
	must(t, err)
	_, err = u.Write(content[:400<<10])
	must(t, err)
	must(t, u.Stop())

	identity, recipients := newKey(t)
	f.options.Recipients = recipients
	f.store, err = Open(t.Context(), f.folder, f.options)
	must(t, err)
	b := f.save("20260101-000000", content)
	r := f.store.Stream(t.Context(), &b.Manifest, seal.Identities{identity})
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the new key reads %d bytes of %d: %v", len(got), len(content), err)
	}
	must(t, r.Close())
}

func TestAnotherStreamDoesNotGoOn(t *testing.T) {
	f := newFixture(t)
	f.failAfter(5, errors.New("gone"))
	o := Order{Source: "host_home", Name: "20260101-000000", Key: "k"}
	u, err := f.store.Begin(t.Context(), o)
	must(t, err)
	_, _ = u.Write(stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader))
	must(t, u.Stop())
	f.store.bucket = f.folder
	u, err = f.store.Begin(t.Context(), o)
	must(t, err)
	_, _ = u.Write(stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader))
	if _, err := u.Close(); !errors.Is(err, sendstream.ErrPrefixDiffers) {
		t.Fatalf("it ended with %v", err)
	}
	must(t, u.Abort(t.Context()))
	if c := f.catalog(); len(c.Backups)+len(c.Rest) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestABadStreamIsNoBackup(t *testing.T) {
	f := newFixture(t)
	content := stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader)
	for name, bad := range map[string][]byte{"truncated": content[:len(content)-100], "without end": content[:len(content)-10],
		"flipped": append(append(bytes.Clone(content[:5000]), content[5000]^1), content[5001:]...)} {
		t.Run(name, func(t *testing.T) {
			u, err := f.store.Begin(t.Context(), Order{Source: "host_home", Name: "n", Key: name})
			must(t, err)
			_, _ = u.Write(bad)
			if _, err := u.Close(); !errors.Is(err, sendstream.ErrTruncated) && !errors.Is(err, sendstream.ErrCorrupt) {
				t.Errorf("it ended with %v", err)
			}
			must(t, u.Abort(t.Context()))
		})
	}
	if c := f.catalog(); len(c.Backups)+len(c.Rest) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestFaultsAreTold(t *testing.T) {
	f := newFixture(t)
	b := f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 1<<20, rand.Reader))
	file := func(name string) string { return filepath.Join(f.dir, b.Dir, name) }
	must(t, os.Remove(file("data.000003")))
	must(t, os.Truncate(file("data.000005"), 100))
	c := f.catalog()
	if got := fmt.Sprint(c.Backups[0].Faults); !strings.Contains(got, "data.000003 is missing") || !strings.Contains(got, "data.000005 has 100 bytes") {
		t.Error(got)
	}
	must(t, os.Remove(file("manifest")))
	if got := fmt.Sprint(f.catalog().Backups[0].Faults); !strings.Contains(got, "its manifest is missing") {
		t.Error(got)
	}
	must(t, os.RemoveAll(filepath.Join(f.dir, b.Dir)))
	if c := f.catalog(); len(c.Backups) != 1 || len(c.Backups[0].Faults) != 1 {
		t.Errorf("of a store in which all is gone: %+v", c)
	}
	f.save("20260102-000000", stream(btrfs.UUID{2}, btrfs.UUID{}, 1<<10, rand.Reader))
	if c := f.catalog(); len(c.Backups) != 2 || len(c.Backups[0].Faults) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestAForgedBackupIsNone(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader))
	other := newFixture(t)
	other.options.Trusts = nil
	forger, err := Open(t.Context(), f.folder, other.options)
	must(t, err)
	u, err := forger.Begin(t.Context(), Order{Source: "host_home", Name: "20270101-000000", Key: "k"})
	must(t, err)
	_, err = u.Write(stream(btrfs.UUID{3}, btrfs.UUID{}, 100<<10, rand.Reader))
	must(t, err)
	_, err = u.Close()
	must(t, err)
	_, err = u.Commit(t.Context(), btrfs.UUID{9}, time.Now(), Private{})
	must(t, err)
	c := f.catalog()
	if len(c.Backups) != 1 || len(c.Rest) != 1 || !c.Rest[0].Foreign {
		t.Fatalf("%+v", c)
	}
	if f.store.DeleteRest(t.Context(), c.Rest[0]) == nil {
		t.Error("somebody else's backup was deleted")
	}
}

func TestDeletingLeavesNothingOfABackup(t *testing.T) {
	f := newFixture(t)
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader))
	f.save("20260102-000000", stream(btrfs.UUID{2}, btrfs.UUID{1}, 100<<10, rand.Reader))
	c := f.catalog()
	deleted, err := f.store.Delete(t.Context(), "host_home", []*Backup{&c.Backups[1]})
	must(t, err)
	if len(deleted) != 1 {
		t.Errorf("%d were deleted", len(deleted))
	}
	c = f.catalog()
	if len(c.Backups) != 1 || c.Backups[0].Name != "20260101-000000" || len(c.Rest) != 0 {
		t.Errorf("%+v", c)
	}
	if _, err := os.Stat(filepath.Join(f.dir, "backups/host_home")); err != nil {
		t.Error(err)
	}
}

func TestAStoreIsMadeInAnEmptyPlaceOnly(t *testing.T) {
	f := newFixture(t)
	if _, err := Create(t.Context(), f.folder, f.options); err == nil {
		t.Error("it was made twice")
	}
	empty, err := object.OpenFolder(t.TempDir(), "store:x")
	must(t, err)
	defer empty.Close()
	if _, err := Open(t.Context(), empty, f.options); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder was opened: %v", err)
	}
	must(t, empty.Put(t.Context(), "mine", nil, object.PutOptions{}))
	if _, err := Create(t.Context(), empty, f.options); err == nil || !strings.Contains(err.Error(), "mine") {
		t.Errorf("it was made beside other things: %v", err)
	}
}

func TestSourceNames(t *testing.T) {
	for _, c := range []struct{ host, path, want string }{
		{"laptop", "/home", "laptop_home"}, {"laptop", "/", "laptop_"}, {"a.b", "/srv/my_data", "a.b_srv_my=5Fdata"},
		{".x", "/ü", "=2Ex_=C3=BC"},
	} {
		if got := SourceName(c.host, c.path); got != c.want {
			t.Errorf("%s:%s is %s", c.host, c.path, got)
		}
	}
	if long := SourceName("h", strings.Repeat("/long", 100)); len(long) > 200 || long == SourceName("h", strings.Repeat("/long", 101)) {
		t.Error(long)
	}
	for _, name := range []string{"20260101-000000", "a b/ü.x", "home.20260101T0000_1"} {
		if got := titleOf(newDir("s", name)); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
}

func TestOfTwoCopiesTheFirstCounts(t *testing.T) {
	f := newFixture(t)
	content := stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader)
	first := f.save("20260101-000000", content)
	must(t, os.Chtimes(filepath.Join(f.dir, first.Dir, "manifest"), time.Time{}, time.Now().Add(-time.Hour)))
	f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 100<<10, rand.Reader)) // by a thief, who has all keys of the machine
	if c := f.catalog(); len(c.Backups) != 1 || c.Backups[0].Dir != first.Dir || len(c.Rest) != 1 || c.Rest[0].Superseded || !c.Rest[0].Spare {
		t.Errorf("%+v", c)
	}
	must(t, os.Remove(filepath.Join(f.dir, first.Dir, "data.000000")))
	if c := f.catalog(); len(c.Backups) != 1 || c.Backups[0].Dir == first.Dir {
		t.Errorf("of a damaged one and a whole one: %+v", c)
	} else if len(c.Rest) != 1 || !c.Rest[0].Superseded {
		t.Errorf("a damaged one stays: %+v", c.Rest)
	}
}

func TestOfTwoCopiesTheOneCountsThatCanBeRestored(t *testing.T) {
	f := newFixture(t)
	root := f.save("20260101-000000", stream(btrfs.UUID{1}, btrfs.UUID{}, 10<<10, rand.Reader))
	increment := f.save("20260102-000000", stream(btrfs.UUID{2}, btrfs.UUID{1}, 10<<10, rand.Reader))
	_, err := f.store.Delete(t.Context(), "host_home", []*Backup{root})
	must(t, err)
	complete := f.save("20260102-000000", stream(btrfs.UUID{2}, btrfs.UUID{}, 10<<10, rand.Reader))
	c := f.catalog()
	if len(c.Backups) != 1 || c.Backups[0].Dir != complete.Dir {
		t.Errorf("%+v", c.Backups)
	}
	if len(c.Rest) != 1 || c.Rest[0].Dir != increment.Dir || !c.Rest[0].Superseded {
		t.Errorf("%+v", c.Rest)
	}
}
