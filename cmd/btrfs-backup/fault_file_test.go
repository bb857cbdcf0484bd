package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestAFileThatTheDestinationCannotStoreIsNamedAndTriedWithOneParent(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, btrfstest.New(t, rigSize), btrfstest.New(t, rigSize, "noacl"))
	before := names(t, r.destination)
	file := filepath.Join(r.source, "data")
	btrfstest.Run(t, "setfacl", "-m", "u:1000:r", file)
	expect(t, exitDone, r.run(nil, "-T"))
	streams := newTap(t)
	failed := expect(t, exitFailed, r.run(streams.environ()), `set_xattr "system.posix_acl_access" of "data": operation not supported`,
		"hint: "+r.destination+" stores no ACLs", "noacl", "setfacl -b")
	streams.passed(t, 2) // for two snapshots
	if strings.Count(failed.stderr, "hint: ") != 1 {
		t.Errorf("not one hint for one cause: %s", failed.stderr)
	}
	r.holdsOnly(before)

	btrfstest.Run(t, "setfacl", "-b", file)
	expect(t, exitPartly, r.run(nil))
	r.isSaved(r.destination)
	expect(t, exitPartly, r.run(nil, "-N", "1"))
	if snapshots := r.snapshots(); len(snapshots) != 1 {
		t.Errorf("snapshots that cannot be sent are kept: %v", snapshots)
	}
	expect(t, exitDone, r.run(nil))
}
