package offsite

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// newMembers gives a store with backups of the members of a set, one of which came later.
func newMembers(t *testing.T) (s *shop, members, names []string) {
	s = newShop(t, inFolder(t.TempDir()))
	members = []string{source, "host_srv"}
	for day := range 6 {
		names = append(names, time.Date(2026, 6, 2+day, 12, 0, 0, 0, time.Local).Format("20060102-150405")) // from Tuesday on
	}
	s.set = members
	for i, from := range []int{0, 2} {
		s.source, s.number = members[i], make(map[string]byte)
		for _, name := range names[from:] {
			s.save(name, "")
		}
	}
	return s, members, names
}

func TestASetIsCompleteWhereAllMembersHaveABackup(t *testing.T) {
	s, members, names := newMembers(t)
	check := func(in inventory.Place, name string, complete bool) {
		t.Helper()
		e := entry(t, in, name)
		notes := strings.Join(e.Notes, ", ")
		switch {
		case !slices.Equal(e.Members, members):
			t.Errorf("%s is of the set %q", name, e.Members)
		case complete && (e.Lacks != nil || !strings.Contains(notes, "set of 2")):
			t.Errorf("%s lacks %q: %s", name, e.Lacks, notes)
		case !complete && (!slices.Equal(e.Lacks, members[1:]) || !strings.Contains(notes, "INCOMPLETE set, without host_srv")):
			t.Errorf("%s lacks %q: %s", name, e.Lacks, notes)
		}
	}
	for _, in := range []inventory.Place{s.look(members[0]), s.look("").Below[0]} {
		check(in, names[1], false)
		check(in, names[2], true)
	}
	place := s.look(members[1])
	deleted, err := place.Streams.Delete(t.Context(), names[2:3])
	must(t, err)
	if len(deleted) != 1 {
		t.Fatalf("deleted %q", deleted)
	}
	check(s.look(members[0]), names[2], false)
	check(s.look(members[0]), names[3], true)
}

func TestAPolicyDecidesOnMembersInAStoreAsOnOne(t *testing.T) {
	s, members, names := newMembers(t)
	weeks, err := retention.Parse("4w")
	must(t, err)
	now := time.Date(2026, 6, 7, 13, 0, 0, 0, time.Local)
	kept := func(source string) (kept []string) {
		decided, err := s.look(source).Decide(inventory.Policy{Backups: weeks}, now)
		must(t, err)
		for _, d := range decided {
			if d.Keep {
				kept = append(kept, d.Name)
			}
		}
		slices.Sort(kept)
		return kept
	}
	if got, want := kept(members[0]), []string{names[0], names[4], names[5]}; !slices.Equal(got, want) {
		t.Errorf("of %s %q is kept, want %q", members[0], got, want)
	}
	if got, want := kept(members[1]), names[4:]; !slices.Equal(got, want) { // by itself it has another oldest day of the week
		t.Errorf("of %s %q is kept, want %q", members[1], got, want)
	}
	s.source, s.set, s.number = "host_alone", nil, make(map[string]byte)
	for _, name := range names[2:] {
		s.save(name, "")
	}
	if got, want := kept(s.source), []string{names[2], names[4], names[5]}; !slices.Equal(got, want) {
		t.Errorf("of a source by itself %q is kept, want %q", got, want)
	}
}
