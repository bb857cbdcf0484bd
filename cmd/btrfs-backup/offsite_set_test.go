package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestSubvolumesBelowASourceComeBackFromAStore(t *testing.T) {
	t.Parallel()
	withStores(t, func(r *offsiteRig) {
		alice := *r
		alice.source = filepath.Join(r.source, "alice")
		btrfstest.Run(r, "btrfs", "subvolume", "create", alice.source)
		for n := range 2 {
			r.write("data", (n+1)*smallPart)
			alice.write("data", (n+1)*smallPart)
			expect(r, exitDone, r.saves("--recursive"), "2 subvolumes, itself included", "complete")
		}
		for _, one := range []*offsiteRig{r, &alice} {
			if taken, held := one.snapshots(), one.held(); len(taken) != 2 || !slices.Equal(taken, held) {
				r.Fatalf("of %s: %q, held %q", one.source, taken, held)
			}
			target := filepath.Join(btrfstest.New(r, rigSize).Dir, "back")
			expect(r, exitDone, one.restores(nil, "", "-i", r.key, target))
			// In the place of alice the upper one has nothing.
			btrfstest.Run(r, "diff", "-r", "-x", "alice", "-x", "snapshot", one.source, target)
		}
	})
}

func TestASetInAStoreIsListedAndDeletedAsSuch(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	other := *r
	other.source = filepath.Join(r.fs.Dir, "data")
	btrfstest.Run(t, "btrfs", "subvolume", "create", other.source)
	runs := func() {
		t.Helper()
		cmd := exec.Command(testOnlySet, append(r.options(), "home="+r.source, "data="+other.source, r.place)...)
		cmd.Env = r.environ()
		expect(t, exitDone, invokeCmd(t, cmd), "complete")
	}
	does := func(want int, args []string, texts ...string) {
		t.Helper()
		cmd := prepare(nil, args...)
		cmd.Env = r.environ()
		expect(t, want, invokeCmd(t, cmd), texts...)
	}
	for range 3 {
		r.write("file", 100)
		other.write("file", 100)
		runs()
	}
	home, data := r.place+"/"+r.sourceName(), r.place+"/"+other.sourceName()
	first, newest := r.snapshots()[0], r.snapshots()[2]
	does(exitDone, []string{"list", home}, "set of 2")
	does(exitFailed, []string{"delete", data + "/" + newest}, "it is a member of a set", "--even-member")
	does(exitFailed, []string{"delete", "--even-member", data + "/" + newest}, "it is in the newest complete set there", "--even-parent")
	does(exitFailed, []string{"delete", "--even-member", data + "/" + first}, "can never be restored again")
	does(exitDone, []string{"delete", "--even-member", "--even-parent", data + "/" + newest}, newest)
	does(exitDone, []string{"list", home}, "INCOMPLETE set,", other.sourceName(), "set of 2")
	does(exitDone, []string{"list", r.place}, "1 in INCOMPLETE sets")
}

func TestSubvolumesBelowASourceGoToAStoreByAKeyThatMayOnlyAdd(t *testing.T) {
	t.Parallel()
	r := newOffsiteSource(t)
	alice := *r
	alice.source = filepath.Join(r.source, "alice")
	btrfstest.Run(t, "btrfs", "subvolume", "create", alice.source)
	r.folder = filepath.Join(r.fs.Dir, "store")
	btrfstest.Check(t, os.Mkdir(r.folder, 0o700))
	far := newRestricted(t, "--restrict-to '"+r.folder+"' --append-only")
	r.keep = far.arguments("--recursive", "--keep-backups", "last=1")
	r.place = "store+" + far.place(r.folder)
	for range 3 {
		r.write("data", smallPart)
		alice.write("data", smallPart)
		expect(t, exitDone, r.saves(), "complete")
	}
	r.place = "store:" + r.folder
	alice.place, alice.folder = r.place, r.folder
	for _, one := range []*offsiteRig{r, &alice} {
		if taken, held := one.snapshots(), one.held(); len(taken) != 3 || !slices.Equal(taken, held) {
			t.Errorf("of %s: %q, held %q", one.source, taken, held)
		}
	}
}
