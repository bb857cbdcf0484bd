package set_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// newStored is a rig whose set is root and data, and goes to a store, too.
func newStored(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	r.spec.Members = slices.DeleteFunc(r.spec.Members, func(m job.Member) bool { return m.Name == "etc" })
	r.useStore()
	return r
}

// useStore adds a store to the destinations.
func (r *rig) useStore() {
	r.Helper()
	r.spec.Stores.Recipients, r.spec.Stores.OneRecipient = filepath.Join(r.given.State, "recipients"), true
	r.spec.Destinations = append(r.spec.Destinations, job.Store{Path: r.stored()})
	r.useOtherKey()
}

// useOtherKey makes a new key the only recipient.
func (r *rig) useOtherKey() {
	r.Helper()
	identity, err := age.GenerateX25519Identity()
	btrfstest.Check(r, err)
	btrfstest.Check(r, os.WriteFile(r.spec.Stores.Recipients, []byte(identity.Recipient().String()+"\n"), 0o644))
}

// stored gives the folder of the store.
func (r *rig) stored() string { return filepath.Join(r.destination, "store") }

// inStore gives the name in the store of the source at a path.
func (r *rig) inStore(path ...string) string {
	r.Helper()
	host, err := os.Hostname()
	btrfstest.Check(r, err)
	return store.SourceName(host, r.at(path...))
}

// storeHolds compares the names of the whole backups of a source in the store, and gives these.
func (r *rig) storeHolds(source string, want ...string) []store.Backup {
	r.Helper()
	b, err := object.OpenFolder(r.stored(), "store")
	btrfstest.Check(r, err)
	defer b.Close()
	s, err := store.Open(r.Context(), b, store.Options{Log: slog.New(slog.DiscardHandler)})
	btrfstest.Check(r, err)
	c, err := s.Catalog(r.Context(), source)
	btrfstest.Check(r, err)
	var got []string
	for _, b := range c.Backups {
		if len(b.Faults) == 0 {
			got = append(got, b.Name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		r.Errorf("the store holds %q of %s, want %q", got, source, want)
	}
	return c.Backups
}

// toldOf gives what is told of sets at the last destination.
func toldOf(did *engine.Report) []engine.SetReport {
	return did.Destinations[len(did.Destinations)-1].Sets
}

func TestASetGoesToAStoreAndAFolder(t *testing.T) {
	r := newStored(t)
	for i := range 2 {
		r.write("data", strings.Repeat("x", i+1))
		if got := toldOf(r.succeed()); len(got) != 1 || got[0].Name != day(i+1) || got[0].Lacks != nil {
			t.Errorf("it tells %+v", got)
		}
	}
	r.holds(r.to(), append(days(1, 2), "root", "data")...)
	want := []string{r.inStore("root"), r.inStore("data")}
	for _, source := range want {
		for i, b := range r.storeHolds(source, days(1, 2)...) {
			if !slices.Equal(b.Set, want) {
				t.Errorf("%s tells of the set %q, want %q", b.Name, b.Set, want)
			}
			if b.Full() != (i == 0) {
				t.Errorf("%s is complete: %t", b.Name, b.Full())
			}
		}
	}
}

func TestTheRetentionDecidesOnASetInAStoreAsOnOne(t *testing.T) {
	r := newStored(t)
	r.spec.KeepBackups = policy(t, "4w")
	r.spec.Subvolume.NoIncremental = true // nothing is kept for others
	all := r.spec.Members
	r.spec.Members = all[:1]
	r.succeed() // Tuesday
	r.succeed()
	r.spec.Members = all
	for range 4 { // data has by itself another oldest day of this week than the set
		r.succeed()
	}
	r.storeHolds(r.inStore("root"), days(1, 5, 6)...) // the newest two complete ones, too
	r.storeHolds(r.inStore("data"), days(5, 6)...)
}

func TestAMemberThatFailsLeavesAStoreItsBackups(t *testing.T) {
	r := newStored(t)
	r.spec.Destinations = r.spec.Destinations[1:]
	r.spec.KeepBackups = policy(t, "last=1")
	r.spec.Subvolume.NoIncremental = true
	for range 3 {
		r.succeed()
	}
	r.storeHolds(r.inStore("root"), days(2, 3)...) // two complete copies
	inTheWay := filepath.Join(r.stored(), "backups", r.inStore("data"))
	btrfstest.Check(t, os.Rename(inTheWay, inTheWay+".away"))
	btrfstest.Check(t, os.WriteFile(inTheWay, nil, 0o600))
	if got := toldOf(r.fail("not a directory")); len(got) != 1 || !slices.Equal(got[0].Lacks, []string{"data"}) {
		t.Errorf("it tells %+v", got)
	}
	r.storeHolds(r.inStore("root"), days(2, 3, 4)...)
	btrfstest.Check(t, os.Remove(inTheWay))
	btrfstest.Check(t, os.Rename(inTheWay+".away", inTheWay))
	r.succeed()
	for _, member := range []string{"root", "data"} {
		r.storeHolds(r.inStore(member), days(4, 5)...)
	}
}

func TestMembersThatHaveOneHistoryInAStoreAreNotMixed(t *testing.T) {
	r := newStored(t)
	r.succeed()
	host, err := os.Hostname()
	btrfstest.Check(t, err)
	ids, err := os.ReadDir(filepath.Join(r.given.State, "stores"))
	btrfstest.Check(t, err)
	s := lock.State{Dir: r.given.State}
	btrfstest.Check(t, s.SetStoredAs(t.Context(), ids[0].Name(), host+":"+r.at("data"), r.inStore("root")))
	r.fail("have one history there, since one was restored")
	r.storeHolds(r.inStore("root"), day(1))
}

func TestARehearsedSetLeavesNoStore(t *testing.T) {
	r := newStored(t)
	r.spec.DryRun = true
	r.succeed()
	if _, err := os.Lstat(r.stored()); err == nil {
		t.Error("a dry run made the store")
	}
}

func TestSubvolumesBelowASourceGoToAStore(t *testing.T) {
	r := newRecursive(t)
	r.useStore()
	for i := range 2 {
		if got := toldOf(r.succeed()); len(got) != 1 || got[0].Name != day(i+1) || got[0].Lacks != nil {
			t.Errorf("it tells %+v", got)
		}
	}
	for _, level := range levels {
		for _, b := range r.storeHolds(r.inStore("root", level), days(1, 2)...) {
			if b.Set != nil {
				t.Errorf("%s tells of a set: %q", b.Name, b.Set)
			}
		}
	}
	r.useOtherKey()
	r.log.Reset()
	gone := "home/alice/mail"
	btrfstest.Run(t, "sh", "-c", `for s in "$1"/snapshot/2*; do btrfs subvolume delete "$s"; done; btrfs subvolume delete "$1"`, "-", r.at("root", gone))
	r.subvolume("root", "srv")
	r.succeed()
	r.storeHolds(r.inStore("root", gone), days(1, 2)...)
	r.storeHolds(r.inStore("root", "srv"), day(3))
	r.storeHolds(r.inStore("root", "home"), days(1, 2, 3)...)
	if told := strings.Count(r.log.String(), "made for other recipients"); told != 1 {
		t.Errorf("told %d times that the keys are others", told)
	}
}
