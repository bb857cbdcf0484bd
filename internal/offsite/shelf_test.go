package offsite

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// a shop is a store with backups of a source, each of a UUID by its number.
type shop struct {
	*testing.T
	place  Place
	o      store.Options
	ids    seal.Identities
	source string
	set    []string  // of the source
	until  time.Time // that backups are locked
	store  *store.Store
	number map[string]byte // of backups, by name
}

const source = "host_home"

func newShop(t *testing.T, at Place) *shop {
	o, ids := options(t)
	b, closer, err := at.Open(t.Context(), nil)
	must(t, err)
	t.Cleanup(func() { closer.Close() })
	s, err := store.Create(t.Context(), b, o)
	must(t, err)
	return &shop{T: t, place: at, o: o, ids: ids, source: source, store: s, number: make(map[string]byte)}
}

// save stores a backup that builds on another one, or is complete.
func (s *shop) save(name, on string) *store.Backup {
	s.Helper()
	n := byte(len(s.number) + 1)
	s.number[name] = n
	head := streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"), streamtest.UUID(sendstream.AttrUUID, btrfs.UUID{n}),
		streamtest.Number(sendstream.AttrCtransid, 7))
	if on != "" {
		head = streamtest.Encode(sendstream.CmdSnapshot, streamtest.Text(sendstream.AttrPath, "x"), streamtest.UUID(sendstream.AttrUUID, btrfs.UUID{n}),
			streamtest.Number(sendstream.AttrCtransid, 7), streamtest.UUID(sendstream.AttrCloneUUID, btrfs.UUID{s.number[on]}),
			streamtest.Number(sendstream.AttrCloneCtransid, 7))
	}
	content := streamtest.Stream(1, head, streamtest.Makes(sendstream.CmdMkfile, "file"), streamtest.Write("file", strings.Repeat(name, 100)))
	u, err := s.store.Begin(s.Context(), store.Order{Source: s.source, Name: name, Key: name, Until: s.until, Set: s.set})
	must(s, err)
	_, err = u.Write(content)
	must(s, err)
	_, err = u.Close()
	must(s, err)
	b, err := u.Commit(s.Context(), btrfs.UUID{200}, time.Now(), store.Private{Host: "host", Path: "/home"})
	must(s, err)
	return b
}

func (s *shop) reader() Reader {
	return Reader{Options: s.o, Now: time.Now}
}

// look lists the source, or with "" the store.
func (s *shop) look(below string) inventory.Place {
	s.Helper()
	at := s.place
	if below != "" {
		at = within(at, below)
	}
	p, found, err := s.reader().Look(s.Context(), at)
	must(s, err)
	s.Cleanup(func() { found.Close() })
	return p
}

func within(at Place, name string) Place {
	switch p := at.(type) {
	case inFolder:
		return p + inFolder("/"+name)
	case Server:
		p.Name += "/" + name
		return p
	}
	panic("no place")
}

func entry(t testing.TB, p inventory.Place, name string) inventory.Entry {
	t.Helper()
	for _, e := range p.Entries("") {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("%s is not listed", name)
	return inventory.Entry{}
}

func TestAStoreIsListedFromItsIndexes(t *testing.T) {
	server := objecttest.Start(t, objecttest.Options{})
	at := Server{Name: server.Bucket(t, "backups") + "/all", S3Options: object.S3Options{Log: noLog,
		Credentials: object.Credentials{File: objecttest.Credentials(t, objecttest.Key, objecttest.Secret)}}}
	s := newShop(t, at)
	s.save("20260101-000000", "")
	s.save("20260102-000000", "20260101-000000")

	before := server.Counts()
	p := s.look("")
	after := server.Counts()
	if lists, gets := after["list"]-before["list"], after["get"]-before["get"]; lists > 2 || gets > 2 { // one each to find the store
		t.Errorf("%d lists and %d gets", lists, gets)
	}
	if len(p.Below) != 1 || p.Below[0].Folder != at.Name+"/"+source || len(p.Below[0].Entries("")) != 2 {
		t.Errorf("%d sources: %+v", len(p.Below), p.Below)
	}
	if of := p.Below[0].SourceNames(""); !slices.Equal(of, []string{"host:/home"}) {
		t.Errorf("of %q", of)
	}
	of := s.look(source)
	second := entry(t, of, "20260102-000000")
	if second.Parent != "20260101-000000" || !second.Complete || !slices.Contains(second.Notes, "newest") || second.Freed == nil || *second.Freed == 0 {
		t.Errorf("%+v", second)
	}
	if first := entry(t, of, "20260101-000000"); !slices.Contains(first.Notes, "complete") || first.Signer != s.o.Signer.PublicKey() {
		t.Errorf("%+v", first)
	}
}

func TestWhatCannotBeRestoredIsListedAsSuch(t *testing.T) {
	in := inFolder(t.TempDir())
	s := newShop(t, in)
	s.save("20260101-000000", "")
	middle := s.save("20260102-000000", "20260101-000000")
	s.save("20260103-000000", "20260102-000000")
	must(t, os.Remove(filepath.Join(string(in), middle.Dir, "data.000000")))
	p := s.look(source)
	if e := entry(t, p, "20260102-000000"); e.Kind != inventory.Broken || e.Complete || !strings.Contains(strings.Join(e.Notes, ""), "data.000000 is missing") {
		t.Errorf("%+v", e)
	}
	if e := entry(t, p, "20260103-000000"); e.Complete || !strings.Contains(strings.Join(e.Notes, ""), "LOST: 20260102-000000") {
		t.Errorf("%+v", e)
	}
	if newest := p.Streams.Newest(); newest != "20260101-000000" {
		t.Errorf("the newest is %q", newest)
	}
}

func TestNamesAreReadWhereTheyAreHidden(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	s.source = store.HiddenName(source, []byte("secret"))
	s.save("20260101-000000", "")
	if names := s.look("").Below[0].SourceNames(""); !slices.Equal(names, []string{"?"}) {
		t.Errorf("a hidden source is %q", names)
	}
	r := s.reader()
	r.Identities = s.ids
	p, found, err := r.Look(t.Context(), s.place)
	must(t, err)
	defer found.Close()
	if names := p.Below[0].SourceNames(""); !slices.Equal(names, []string{"host:/home"}) {
		t.Errorf("with the key it is %q", names)
	}
}

func TestWhatOthersSignedIsForeign(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	s.save("20260101-000000", "")
	s.o.Trusts = func(string) bool { return false }
	if e := s.look(source).Entries("")[0]; e.Kind != inventory.Foreign || e.Complete {
		t.Errorf("%+v", e)
	}
	s.o.Trusts = nil
	if e := s.look(source).Entries("")[0]; e.Kind != inventory.Backup || !slices.Contains(e.Notes, "unknown signer") {
		t.Errorf("%+v", e)
	}
}
