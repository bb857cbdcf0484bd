package tree

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// What equals the base is no new backup, whatever was done to it meanwhile, and leaves nothing.
func TestOnlyWhatChangedIsBackedUpOnRequest(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		r.populate()
		check(t, os.Mkdir(r.source+"/empty", 0o755))
		r.backup("1", "")
		try := func(origin Origin, incomplete ...string) error {
			t.Helper()
			r.copy("2", "1")
			order := result("2", "1")
			order.OnlyChanges, order.Origin, order.Incomplete = true, origin, incomplete
			_, err := r.folder.Finish(t.Context(), order, nil)
			if err == nil {
				_, err = r.folder.Delete(t.Context(), []string{"2"})
				check(t, err)
				return nil
			}
			if l := mustList(t, r.folder); len(l.Backups) != 1 || len(l.Leftovers) > 0 {
				t.Errorf("left: %+v", l)
			}
			if names, err := r.folder.state.Names(); len(names) != 2 || err != nil {
				t.Errorf("state: %q, %v", names, err)
			}
			return err
		}
		source, root := Origin{Source: "source"}, btrfstest.Open(t, r.source)
		if err := try(source); !errors.Is(err, ErrUnchanged) {
			t.Errorf("unchanged: %v", err)
		}
		if err := try(source, "one is missing"); !errors.Is(err, ErrUnchanged) {
			t.Errorf("unchanged and incomplete: %v", err)
		}
		if err := try(Origin{Source: "other"}); err != nil {
			t.Errorf("another source: %v", err)
		}
		info, err := root.Stat()
		check(t, err)
		check(t, os.Remove(r.source+"/empty"))
		check(t, os.Chtimes(r.source, time.Time{}, info.ModTime()))
		if err := try(source); err != nil {
			t.Errorf("an empty directory is gone: %v", err)
		}
		check(t, os.Mkdir(r.source+"/empty", 0o700))
		check(t, os.Chtimes(r.source, time.Time{}, info.ModTime()))
		if err := try(source); err != nil {
			t.Errorf("a mode differs: %v", err)
		}
		record, err := r.folder.readRecord("1")
		check(t, err)
		check(t, os.Remove(r.source+"/empty"))
		record.Missing = 1
		check(t, r.folder.writeRecord(record))
		if err := try(source); err != nil {
			t.Errorf("a complete one upon an incomplete one: %v", err)
		}
	})
}

func TestASubvolumeToWhichNothingWasWrittenIsNotLookedThrough(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	current := f.pathOf("current")
	btrfstest.Run(t, "btrfs", "subvolume", "create", current)
	write(t, current, "a")
	freeze := func(name, base string) error {
		origin := Origin{Source: "s"}
		_, err := f.Begin(t.Context(), Order{Name: name, Base: base, Origin: origin, Snapshot: current, OnlyChanges: true})
		if err == nil {
			_, err = f.Finish(t.Context(), Result{Name: name, Base: base, Origin: origin, MaxDelete: 100, OnlyChanges: true}, nil)
		}
		return err
	}
	check(t, freeze("b1", ""))
	check(t, os.Remove(f.state.Path(state.ManifestFile("b1")))) // without it all would count as changed
	if err := freeze("b2", "b1"); !errors.Is(err, ErrUnchanged) || exists(f.pathOf(".b2.incoming")) {
		t.Errorf("unchanged: %v", err)
	}
	check(t, os.Chmod(current+"/a", 0o600))
	check(t, freeze("b2", "b1"))
	check(t, os.Chtimes(current+"/a", time.Unix(2e9, 0), time.Time{})) // as reading it may do
	if err := freeze("b3", "b2"); !errors.Is(err, ErrUnchanged) || exists(f.pathOf(".b3.incoming")) {
		t.Errorf("read only: %v", err)
	}
}
