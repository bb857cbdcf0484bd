package offsite

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// remove carries out what is chosen of the source.
func (s *shop) remove(choice removal.Choice, change func(*removal.Options)) (removal.Done, error) {
	s.Helper()
	o := removal.Options{Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	found, err := Find(s.Context(), within(s.place, source), s.o)
	must(s, err)
	s.Cleanup(func() { found.Close() })
	return removal.Run(s.Context(), []removal.Order{{Shelf: s.reader().Shelf(found), Folder: "the source", Choice: choice}}, o)
}

func (s *shop) names() (names []string) {
	for _, e := range s.look(source).Entries("") {
		names = append(names, e.Name)
	}
	return names
}

func (s *shop) has(want ...string) {
	s.Helper()
	if got := s.names(); !slices.Equal(got, want) {
		s.Errorf("there are %q, not %q", got, want)
	}
}

// keep is a policy that keeps so many.
func keep(n int) removal.ByPolicy {
	return removal.ByPolicy{Policy: inventory.Policy{Backups: retention.Policy{Last: n}}, Now: time.Now()}
}

func TestWhatKeptBackupsBuildOnIsNotPruned(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	s.save("20260101-000000", "")
	s.save("20260102-000000", "20260101-000000")
	s.save("20260103-000000", "20260101-000000")
	did, err := s.remove(keep(1), nil)
	must(t, err)
	s.has("20260101-000000", "20260103-000000")
	if did.Freed == nil || *did.Freed == 0 {
		t.Error("nothing was freed")
	}
	reasons := decided(t, s, 1)
	if why := reasons["20260101-000000"]; why != "parent of 20260103-000000" {
		t.Errorf("it stays as %q", why)
	}
}

func decided(t *testing.T, s *shop, n int) map[string]string {
	t.Helper()
	all, err := s.look(source).Decide(keep(n).Policy, time.Now())
	must(t, err)
	reasons := make(map[string]string)
	for _, d := range all {
		reasons[d.Name] = strings.Join(d.Reasons, ", ")
	}
	return reasons
}

func TestTwoCompleteCopiesStay(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	for _, name := range []string{"20260101-000000", "20260102-000000", "20260103-000000"} {
		s.save(name, "")
	}
	_, err := s.remove(keep(1), nil)
	must(t, err)
	s.has("20260102-000000", "20260103-000000")
}

func TestABackupThatOthersBuildOnIsDeletedOnlyIfTheUserInsists(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	s.save("20260101-000000", "")
	s.save("20260102-000000", "20260101-000000")
	s.save("20260103-000000", "20260101-000000")
	_, err := s.remove(removal.Named{"20260101-000000"}, nil)
	if err == nil || !strings.Contains(err.Error(), "20260102-000000") || !strings.Contains(err.Error(), "20260103-000000") {
		t.Errorf("what builds on it is not told: %v", err)
	}
	if _, err := s.remove(removal.Named{"20260103-000000"}, nil); err == nil || !strings.Contains(err.Error(), "newest") {
		t.Errorf("the newest one: %v", err)
	}
	s.has("20260101-000000", "20260102-000000", "20260103-000000")
	_, err = s.remove(removal.Named{"20260102-000000"}, nil)
	must(t, err)
	_, err = s.remove(removal.Named{"20260101-000000"}, func(o *removal.Options) { o.EvenParent = true })
	must(t, err)
	s.has("20260103-000000")
	if e := entry(t, s.look(source), "20260103-000000"); e.Complete {
		t.Error("what lost its parent is told to be whole")
	}
}

func TestWithoutAKnownSignerNothingIsDeleted(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	s.save("20260101-000000", "")
	s.save("20260102-000000", "20260101-000000")
	s.o.Trusts = nil
	for _, choice := range []removal.Choice{removal.Named{"20260102-000000"}, keep(1)} {
		if _, err := s.remove(choice, nil); err == nil || !strings.Contains(err.Error(), "no key") {
			t.Errorf("%T: %v", choice, err)
		}
	}
	s.o.Trusts = func(string) bool { return false }
	if _, err := s.remove(removal.Named{titleAt(s, 0)}, func(o *removal.Options) { o.EvenParent = true }); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("what others signed: %v", err)
	}
	if n := len(s.names()); n != 2 {
		t.Errorf("%d are left", n)
	}
}

func titleAt(s *shop, n int) string { return s.look(source).Entries("")[n].Name }

func TestAnUploadUnderWayKeepsWhatItMayBuildOn(t *testing.T) {
	in := inFolder(t.TempDir())
	s := newShop(t, in)
	s.save("20260101-000000", "")
	s.save("20260102-000000", "20260101-000000")
	s.save("20260103-000000", "20260101-000000")
	upload := filepath.Join(string(in), "backups", source, "20260104-000000.deadbeef")
	part := filepath.Join(upload, "data.000000")
	must(t, os.MkdirAll(upload, 0o700))
	must(t, os.WriteFile(part, []byte("part"), 0o600))
	_, err := s.remove(keep(1), nil)
	must(t, err)
	s.has("20260101-000000", "20260102-000000", "20260103-000000", "20260104-000000.deadbeef")
	for _, age := range []time.Duration{0, store.ResumeWindow - time.Hour} {
		written := time.Now().Add(-age)
		must(t, os.Chtimes(part, written, written))
		if _, err := s.remove(removal.Named{"20260104-000000.deadbeef"}, nil); err == nil {
			t.Errorf("it is deleted while it may go on, after %v", age)
		}
	}
	old := time.Now().Add(-store.ResumeWindow - time.Hour)
	must(t, os.Chtimes(part, old, old))
	_, err = s.remove(keep(1), nil)
	must(t, err)
	s.has("20260101-000000", "20260103-000000")
}

func TestWhatIsBrokenIsLeftToWhoeverNamesIt(t *testing.T) {
	in := inFolder(t.TempDir())
	s := newShop(t, in)
	s.save("20260101-000000", "")
	broken := s.save("20260102-000000", "20260101-000000")
	s.save("20260103-000000", "20260102-000000") // is lost with it
	s.save("20260104-000000", "20260101-000000")
	must(t, os.Remove(filepath.Join(string(in), broken.Dir, "data.000000")))
	_, err := s.remove(keep(1), nil)
	must(t, err)
	s.has("20260101-000000", "20260102-000000", "20260103-000000", "20260104-000000")
	_, err = s.remove(removal.Named{"20260102-000000", "20260103-000000"}, nil)
	must(t, err)
	s.has("20260101-000000", "20260104-000000")
}

func TestWhatTheServerLocksStaysWithWhatItBuildsOn(t *testing.T) {
	server := objecttest.Start(t, objecttest.Options{Versions: true})
	s := newShop(t, Server{Name: server.LockingBucket(t, "locked") + "/all", S3Options: object.S3Options{Log: noLog, LockMode: object.Governance,
		Credentials: object.Credentials{File: objecttest.Credentials(t, objecttest.Key, objecttest.Secret)}}})
	s.save("20260101-000000", "")
	s.until = time.Now().Add(time.Hour)
	s.save("20260102-000000", "20260101-000000")
	s.until = time.Time{}
	s.save("20260103-000000", "")
	s.save("20260104-000000", "")
	did, err := s.remove(keep(1), nil)
	must(t, err)
	s.has("20260101-000000", "20260102-000000", "20260103-000000", "20260104-000000")
	told := decided(t, s, 1)["20260102-000000"] // which may know it already
	for _, i := range did.Items {
		if i.Name == "20260102-000000" && !i.Deleted {
			told += strings.Join(i.Reasons, ", ")
		}
	}
	if !strings.Contains(told, s.untilText()) {
		t.Errorf("it is not told until when it is locked: %q", told)
	}
	if _, err := s.remove(removal.Named{"20260102-000000"}, func(o *removal.Options) { o.EvenParent = true }); err == nil || !strings.Contains(err.Error(), "locked until") {
		t.Errorf("by name: %v", err)
	}
}

func (s *shop) untilText() string {
	return "locked until " + time.Now().Add(time.Hour).Format(time.DateOnly)
}

func TestAnUploadInPlaceOfADamagedBackupKeepsWhatItMayBuildOn(t *testing.T) {
	in := inFolder(t.TempDir())
	s := newShop(t, in)
	s.save("20260101-000000", "")
	s.save("20260102-000000", "20260101-000000")
	damaged := s.save("20260103-000000", "20260102-000000")
	s.save("20260104-000000", "20260101-000000")
	must(t, os.Remove(filepath.Join(string(in), damaged.Dir, "data.000000")))
	upload := filepath.Join(string(in), "backups", source, "20260103-000000.deadbeef")
	must(t, os.MkdirAll(upload, 0o700))
	must(t, os.WriteFile(filepath.Join(upload, "data.000000"), []byte("part"), 0o600))
	_, err := s.remove(keep(1), nil)
	must(t, err)
	s.has("20260101-000000", "20260102-000000", "20260103-000000", "20260103-000000.deadbeef", "20260104-000000")
}

// The machine that stored it once more knows that the first one is damaged, and this one does not.
func TestOneMoreCopyOfABackupIsNotPruned(t *testing.T) {
	s := newShop(t, inFolder(t.TempDir()))
	first := s.save("20260101-000000", "")
	delete(s.number, first.Name) // it is the same snapshot
	second := s.save("20260101-000000", "")
	s.save("20260102-000000", "")
	_, err := s.remove(keep(9), nil)
	must(t, err)
	for _, b := range []*store.Backup{first, second} {
		if _, err := os.Stat(filepath.Join(s.place.String()[len("store:"):], b.Dir, "data.000000")); err != nil {
			t.Error(err)
		}
	}
	_, err = s.remove(removal.Named{"20260101-000000"}, func(o *removal.Options) { o.EvenParent = true })
	must(t, err)
	s.has("20260101-000000", "20260102-000000")
}
