package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
)

func TestAKeyOfSSHThatMayOnlyAddMakesBackupsInAStore(t *testing.T) {
	t.Parallel()
	r := newOffsiteSource(t)
	r.folder = filepath.Join(r.fs.Dir, "store")
	btrfstest.Check(t, os.Mkdir(r.folder, 0o700))
	far := newRestricted(t, "--restrict-to '"+r.folder+"' --append-only")
	r.keep = far.arguments("--keep-backups", "last=1")
	r.place = "store+" + far.place(r.folder)
	r.saves()
	before := r.objects()
	r.write("data", 3*smallPart)
	r.saves()
	r.write("data", smallPart)
	said := r.saves() // the one before could go
	if !strings.Contains(said.stderr+said.stdout, "that is left to `btrfs-backup prune`") {
		t.Errorf("nothing is said of what cannot be deleted: %s", said.stderr)
	}
	for key, sum := range before {
		if now := r.objects()[key]; now != sum && !strings.HasPrefix(key, object.IndexPrefix) {
			t.Errorf("%s changed", key)
		}
	}
	r.place = "store:" + r.folder
	r.holdsOnly(r.snapshots())
	if len(r.held()) != 3 {
		t.Errorf("%q", r.held())
	}
}

func TestLocksAreToldAndKeepBackups(t *testing.T) {
	t.Parallel()
	r := newOffsiteSource(t)
	r.server = objecttest.Start(t, objecttest.Options{Versions: true})
	r.server.LockingBucket(t, "backups")
	r.access = objecttest.Credentials(t, objecttest.Key, objecttest.Secret)
	r.place = r.server.Place("backups/pc")
	r.past.runs = 24 * 365 * 10 // the server counts by its own clock
	r.keep = []string{"--object-lock", "governance", "--keep-backups", "last=1"}
	for range 3 {
		r.write("data", smallPart)
		r.saves()
	}
	if said := r.saves("--dry-run").stdout; !strings.Contains(said, "; locked until 203") {
		t.Errorf("nothing is said of locks to come: %s", said)
	}
	if got := r.held(); len(got) != 3 {
		t.Errorf("%q are left", got)
	}
	if said := r.saves("--dry-run", "--no-snapshot").stdout; !strings.Contains(said, ": locked until 203") {
		t.Errorf("nothing is said of what is locked: %s", said)
	}
	b := r.bucket()
	for _, backup := range r.catalog().Backups {
		if err := b.Delete(t.Context(), []string{backup.Dir + object.ManifestName}); err == nil {
			t.Errorf("%s could be deleted", backup.Name)
		}
	}
}
