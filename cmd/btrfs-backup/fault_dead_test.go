package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// death is a way for the disk of a destination to go away.
type death struct {
	name, hint  string
	die, revive func(t testing.TB, fs *btrfstest.FS)
}

var deaths = []death{
	{
		name: "not mounted", hint: "is its disk mounted?",
		die:    func(t testing.TB, fs *btrfstest.FS) { btrfstest.Unmount(t, fs.Dir) },
		revive: func(t testing.TB, fs *btrfstest.FS) { fs.Mount(t, fs.Dir) },
	}, {
		name: "mount point gone", hint: "is its disk mounted?",
		die: func(t testing.TB, fs *btrfstest.FS) {
			btrfstest.Unmount(t, fs.Dir)
			btrfstest.Run(t, "rmdir", fs.Dir)
		},
		revive: func(t testing.TB, fs *btrfstest.FS) { fs.Mount(t, fs.Dir) },
	}, {
		name: "folder on another kind of filesystem", hint: "If it has no btrfs: --engine mirror",
		die: func(t testing.TB, fs *btrfstest.FS) {
			btrfstest.Unmount(t, fs.Dir)
			btrfstest.Run(t, "mkdir", filepath.Join(fs.Dir, "backups"))
		},
		revive: func(t testing.TB, fs *btrfstest.FS) { fs.Mount(t, fs.Dir) },
	}, {
		name: "mounted read-only", hint: "the filesystem is mounted read-only: mount it for writing",
		die:    func(t testing.TB, fs *btrfstest.FS) { btrfstest.Run(t, "mount", "-o", "remount,ro", fs.Dir) },
		revive: func(t testing.TB, fs *btrfstest.FS) { btrfstest.Run(t, "mount", "-o", "remount,rw", fs.Dir) },
	},
}

// immortal gives a filesystem that can be unmounted and mounted again.
func immortal(t testing.TB) *btrfstest.FS {
	t.Helper()
	fs := btrfstest.New(t, rigSize)
	fs.Mount(t, filepath.Join(t.TempDir(), "held"))
	return fs
}

func TestDeadDestinationStopsNoOtherAndHealsByIncrement(t *testing.T) {
	t.Parallel()
	for _, death := range deaths {
		t.Run(death.name, func(t *testing.T) {
			t.Parallel()
			fs := immortal(t)
			r := newRigOn(t, btrfstest.New(t, rigSize), fs)
			dead, others := r.destination, []string{r.another(btrfstest.New(t, rigSize)), r.another(btrfstest.New(t, rigSize))}
			common := r.newest()
			death.die(t, fs)

			expect(t, exitPartly, r.runTo(nil, "-N", "1", r.source, others[0], dead, others[1]), "btrfs-backup: error: ", dead, death.hint)
			missed := r.newest()
			for _, other := range others {
				r.isSaved(other)
			}
			r.lacks(missed, dead)
			r.hasInCommon(missed, others...)
			r.hasInCommon(common, dead)

			death.revive(t, fs)
			r.change()
			healed := expect(t, exitDone, r.runTo(nil, "--json", r.source, dead))
			if sent := sentTo(t, healed, dead); len(sent) != 2 || sent[0].Snapshot != missed || sent[0].Parent != common {
				t.Errorf("sent %+v, and not first %s as an increment to %s", sent, missed, common)
			}
			r.isSaved(dead)
			r.hasInCommon(missed, others...)
		})
	}
}

func TestSnapshotIsTakenAlthoughAllDestinationsAreDead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	missing := filepath.Join(t.TempDir(), "no", "such", "disk")
	btrfstest.Unmount(t, r.destinationFS.Dir)
	failed := expect(t, exitFailed, r.runTo(nil, r.source, r.destination, missing), "took snapshot", r.destination, missing, "is its disk mounted?")
	if taken := r.snapshots(); len(taken) != 2 {
		t.Errorf("the snapshots are %v; none was taken:\n%s", taken, failed.stderr)
	}
	if exists(filepath.Dir(missing)) {
		t.Errorf("%s was created", filepath.Dir(missing))
	}
	r.lacks(r.newest(), r.destination) // the other one never was a destination
}

// lacks fails the test unless the ledger says that these destinations lack the snapshot, and no others.
func (r *rig) lacks(snapshot string, destinations ...string) {
	r.Helper()
	if got := r.ledger()[snapshot].Locks; !sameSet(got, destinations) {
		r.Fatalf("the ledger says that %v lack %s, instead of %v", got, snapshot, destinations)
	}
}

// hasInCommon fails the test unless the ledger says that the snapshot is the newest one that these destinations have, and no
// others.
func (r *rig) hasInCommon(snapshot string, destinations ...string) {
	r.Helper()
	if got := r.ledger()[snapshot].ParentLocks; !sameSet(got, destinations) {
		r.Fatalf("the ledger says that %v have %s, instead of %v", got, snapshot, destinations)
	}
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
