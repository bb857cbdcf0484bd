package tree

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestABackupOfASubvolumeBesideItIsASnapshot(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	current := f.pathOf("current")
	btrfstest.Run(t, "btrfs", "subvolume", "create", current)
	write(t, current, "a", "b")
	check(t, os.Link(current+"/a", current+"/a2"))
	for _, name := range []string{"b1", "b2"} {
		w := mustBegin(t, f, Order{Name: name, Origin: Origin{Source: "s"}, Snapshot: current})
		if !w.Filled || !w.Subvolume {
			t.Fatalf("%+v", w)
		}
		_, err := f.Finish(t.Context(), Result{Name: name, Origin: Origin{Source: "s"}, MaxDelete: 50}, nil)
		check(t, err)
		btrfstest.Equal(t, current, f.pathOf(name), btrfstest.RootTime)
		if info, err := btrfs.InfoAt(f.dir, name); err != nil || !info.ReadOnly {
			t.Errorf("%s: %+v, error: %v", name, info, err)
		}
		write(t, current, "c")
	}
	// what an interrupted run left is not resumed: it shows an earlier state
	mustBegin(t, f, Order{Name: "b3", Origin: Origin{Source: "s"}, Snapshot: current})
	write(t, current, "d")
	if w := mustBegin(t, f, Order{Name: "b4", Origin: Origin{Source: "s"}, Snapshot: current}); w.Resumed || !exists(filepath.Join(w.Path, "d")) {
		t.Errorf("%+v", w)
	}
	if exists(f.pathOf(btrfs.Incoming("b3"))) {
		t.Error("the interrupted one is still there")
	}
}

func TestWhatIsNoSubvolumeOfTheFolderIsToBeCopied(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		current := f.pathOf("current")
		write(t, current, "a")
		other := filepath.Join(btrfstest.New(t, 128<<20).Dir, "subvolume")
		btrfstest.Run(t, "btrfs", "subvolume", "create", other)
		for i, path := range []string{current, other, t.TempDir()} {
			w := mustBegin(t, f, Order{Name: "b1", Origin: Origin{Source: string(rune('a' + i))}, Snapshot: path})
			if w.Filled {
				t.Errorf("%s: %+v", path, w)
			}
			check(t, f.discardPartial("b1"))
		}
	})
}
