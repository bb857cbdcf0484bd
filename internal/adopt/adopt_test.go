package adopt

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

var check, run = btrfstest.Check, btrfstest.Run

// Backups that another program made are on record nowhere.
func TestBackupsOfAnotherProgramAreAdoptedByName(t *testing.T) {
	t.Parallel()
	top := btrfstest.New(t, 256<<20).Dir
	run(t, "sh", "-c", `cd "$1" && btrfs subvolume create home && btrfs subvolume create other && mkdir backups && cd backups &&
		for n in home.20260101T0100 home.20260102T0100; do btrfs subvolume snapshot -r ../home ../$n && btrfs send -q ../$n | btrfs receive -q .; done &&
		btrfs subvolume snapshot -r ../other ../other.20260103T0100 && btrfs send -q ../other.20260103T0100 | btrfs receive -q .`, "sh", top)
	h := local.New(slog.New(slog.DiscardHandler))
	source, err := OpenSource(t.Context(), h, top+"/home")
	check(t, err)
	folder := filepath.Join(top, "backups")
	if _, err := source.In(t.Context(), h, folder, Options{}); err == nil || !strings.Contains(hint.Of(err), "name of a backup") {
		t.Errorf("adopted without a name: %v, %s", err, hint.Of(err))
	}
	r, err := source.In(t.Context(), h, folder, Options{Of: []string{"home.20260102T0100"}})
	if err != nil || r.Adopted() != 2 { // complete copies are no relatives
		t.Errorf("adopted %d, %v", r.Adopted(), err)
	}
	if r, err = source.In(t.Context(), h, folder, Options{DryRun: true}); err == nil || !strings.Contains(err.Error(), "nothing tells that "+top+"/home") {
		t.Errorf("the other: %v", err)
	}
	own := slices.DeleteFunc(r.Histories, func(h History) bool { return !h.Own })
	if len(own) != 1 || own[0].Backups != 2 {
		t.Errorf("its own are %+v", own)
	}
}

func TestOfWhatSeemsToLiveIsTold(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old, top := btrfs.UUID{1}, btrfs.UUID{9}
	s := Source{host: local.New(nil), path: "/home", created: now, there: btrfs.Listing{Top: top}}
	s.Subvolume = btrfs.UUID{2}
	here := func(readOnly bool) btrfs.Listing {
		return btrfs.Listing{Top: top, All: []btrfs.Subvolume{{UUID: old, Name: "old", ReadOnly: readOnly}}}
	}
	for name, test := range map[string]struct {
		history History
		there   btrfs.Listing
		doubt   string
	}{
		"one that is gone":             {History{UUID: old, arrived: now.Add(-time.Hour)}, here(true), ""},
		"one that is there":            {History{UUID: old, arrived: now.Add(-time.Hour)}, here(false), "on the filesystem"},
		"one that was backed up since": {History{UUID: old, arrived: now.Add(time.Hour)}, here(true), "arrived"},
		"a user cannot see it":         {History{UUID: old}, btrfs.Listing{}, "only root"},
		"the top level":                {History{UUID: top}, here(true), "top level"},
	} {
		s.there = test.there
		if got := s.doubt(test.history); (got == "") != (test.doubt == "") || !strings.Contains(got, test.doubt) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A machine without an identity was renamed: nothing tells that it is the same.
func TestTheDirectoriesOfAnotherMachineAreAdoptedByName(t *testing.T) {
	t.Parallel()
	h := local.New(slog.New(slog.DiscardHandler))
	s := Source{host: h, path: "/nowhere/etc"}
	s.Origin.Origin = tree.Origin{Source: "new:/nowhere/etc", Machine: "1"}
	records := []tree.Record{{Name: "20260101-000000", Origin: tree.Origin{Source: "old:/nowhere/etc"}},
		{Name: "20260102-000000", Origin: tree.Origin{Source: "old:/nowhere/etc"}},
		{Name: "20260103-000000", Origin: tree.Origin{Source: "renamed:/nowhere/etc", Machine: "1"}}}
	all, err := s.ofTrees(t.Context(), records)
	check(t, err)
	r := Report{Histories: all}
	if _, err := r.choose(Options{}); err == nil || r.Adopted() > 0 {
		t.Errorf("adopted %d without a name: %v", r.Adopted(), err)
	}
	if _, err := r.choose(Options{Of: []string{"old:/nowhere/etc"}}); err != nil || r.Adopted() != 2 || !r.Histories[1].Own {
		t.Errorf("adopted %d, %v: %+v", r.Adopted(), err, r.Histories)
	}
	lives := append(records, tree.Record{Name: "20260104-000000", Origin: records[0].Origin}) // which was backed up again since
	all, err = s.ofTrees(t.Context(), lives)
	check(t, err)
	r = Report{Histories: all}
	if _, err := r.choose(Options{Of: []string{"old:/nowhere/etc"}}); err == nil || r.Adopted() > 0 || !strings.Contains(err.Error(), "after the first one") {
		t.Errorf("adopted %d of one that lives: %v", r.Adopted(), err)
	}
}
