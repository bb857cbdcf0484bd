package offsite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/verify"
)

// watcher notes what is found.
type watcher struct{ lines []string }

func (w *watcher) Begin(context.Context, string) (func(read, total int64), func()) {
	return func(read, total int64) {}, func() {}
}
func (w *watcher) Found(d tree.Difference) { w.lines = append(w.lines, verify.Line(d)) }
func (w *watcher) Done(r verify.Result)    { w.lines = append(w.lines, r.Summary()) }

// reading is a verify.Bench that reads streams, and receives nothing.
type reading struct{ *shop }

func (r reading) Receive(ctx context.Context, b *store.Backup, _ func(int)) (string, error) {
	content := r.store.Stream(ctx, &b.Manifest, r.ids)
	_, err := io.Copy(io.Discard, content)
	return "", errors.Join(err, content.Close())
}
func (reading) Original(context.Context, *store.Backup, []string) string { return "" }
func (reading) Done(*store.Backup) error                                 { return nil }
func (reading) Close() error                                             { return nil }

func (s *shop) verify(o verify.StoredOptions) ([]verify.Result, string) {
	s.Helper()
	o.Now = time.Now
	w := &watcher{}
	of := verify.Stored{Store: s.store, At: s.place.String() + "/" + source, Source: source}
	of.Bench = func(context.Context, *store.Catalog, []*store.Backup) (verify.Bench, error) { return reading{s}, nil }
	all, err := verify.InStore(s.Context(), of, o, w)
	must(s, err)
	return all, strings.Join(w.lines, "\n")
}

func TestDamageIsToldWithAllThatIsLost(t *testing.T) {
	in := inFolder(t.TempDir())
	s := newShop(t, in)
	first := s.save("20260101-000000", "")
	s.save("20260102-000000", "20260101-000000")
	s.save("20260103-000000", "20260102-000000")
	s.save("20260104-000000", "")
	if all, told := s.verify(verify.StoredOptions{Restore: true}); verify.Differs(all) || len(all) != 4 || all[0].Failure != nil {
		t.Errorf("whole: %s", told)
	}
	if e := entry(t, s.look(source), "20260102-000000"); !slices.Contains(e.Notes, "verified "+time.Now().Format(time.DateOnly)) {
		t.Errorf("it is not noted as verified: %q", e.Notes)
	}
	part := filepath.Join(string(in), first.Dir, "data.000000")
	content, err := os.ReadFile(part)
	must(t, err)
	content[len(content)/2] ^= 1
	must(t, os.WriteFile(part, content, 0o600))
	for _, o := range []verify.StoredOptions{{}, {Download: true}, {Restore: true}} {
		all, told := s.verify(o)
		if len(all) != 4 || !verify.Differs(all) || !slices.Equal(all[3].Lost, []string{"20260102-000000", "20260103-000000"}) {
			t.Errorf("%+v", all)
		}
		if !strings.Contains(told, "data.000000") || !strings.Contains(told, "lost with it: 20260102-000000, 20260103-000000") {
			t.Error(told)
		}
	}
	p := s.look(source)
	if e := entry(t, p, "20260101-000000"); e.Kind != inventory.Broken {
		t.Errorf("known damage is forgotten: %+v", e)
	}
	if e := entry(t, p, "20260104-000000"); !e.Complete {
		t.Errorf("what builds on nothing damaged is whole: %+v", e)
	}
}

func TestAKeyThatReadsNothingIsNoDamage(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	s.save("20260101-000000", "")
	_, s.ids = options(t)
	all, _ := s.verify(verify.StoredOptions{Restore: true})
	if verify.Differs(all) || all[0].Failure == nil {
		t.Errorf("%+v", all[0])
	}
	if all, _ := s.verify(verify.StoredOptions{}); all[0].Failure != nil {
		t.Errorf("%+v", all[0])
	}
}

func TestAStreamThatIsNotWhatWasStoredIsFound(t *testing.T) {
	in := inFolder(t.TempDir())
	s := newShop(t, in)
	first, second := s.save("20260101-000000", ""), s.save("20260102-000000", "")
	// whoever has the signing key, and no other, can make a manifest of the parts of another backup
	forged := first.Manifest
	forged.Sealed = second.Sealed
	line, err := json.Marshal(forged)
	must(t, err)
	content := append(append(line, '\n'), s.o.Signer.Sign(line, forged.Dir)...)
	must(t, os.WriteFile(filepath.Join(string(in), forged.Dir, "manifest"), content, 0o600))
	must(t, os.Remove(filepath.Join(string(in), "index", source)))
	all, told := s.verify(verify.StoredOptions{Restore: true})
	if len(all) != 2 || len(all[0].Differences) > 0 || len(all[1].Differences) != 1 || !strings.Contains(told, "another one than was stored") {
		t.Error(told)
	}
}

func TestADamagedManifestIsDamageAndThatOfOthersIsNone(t *testing.T) {
	in := inFolder(t.TempDir())
	s := newShop(t, in)
	damaged := s.save("20260101-000000", "")
	s.save("20260102-000000", "")
	must(t, os.Remove(filepath.Join(string(in), "index", source)))
	file := filepath.Join(string(in), damaged.Dir, "manifest")
	content, err := os.ReadFile(file)
	must(t, err)
	content[bytes.Index(content, []byte("20260101"))] = '3'
	must(t, os.WriteFile(file, content, 0o600))
	if all, told := s.verify(verify.StoredOptions{}); len(all) != 2 || len(all[1].Differences) != 1 || !strings.Contains(told, "manifest") {
		t.Errorf("a damaged one: %s", told)
	}
	o, _ := options(t)
	b, closer, err := in.Open(t.Context(), nil)
	must(t, err)
	defer closer.Close()
	other, err := store.Open(t.Context(), b, o)
	must(t, err)
	all, err := verify.InStore(t.Context(), verify.Stored{Store: other, At: "all", Source: source}, verify.StoredOptions{Now: time.Now}, &watcher{})
	if len(all) != 1 || !strings.Contains(all[0].Backup, "20260101") { // which nobody signed so
		t.Errorf("those of others: %+v, %v", all, err)
	}
}
