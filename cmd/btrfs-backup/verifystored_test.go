package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// verifies restores backups in the store for a while.
func (r *offsiteRig) verifies(environ []string, below string, options ...string) result {
	r.Helper()
	cmd := prepare(nil, slices.Concat([]string{"verify", "--restore", "-i", r.key, r.place + below}, options)...)
	cmd.Env = slices.Concat(r.environ(), environ)
	return invokeCmd(r, cmd)
}

func TestStoredBackupsAreRestoredForAWhileAndComparedWithTheirSnapshots(t *testing.T) {
	t.Parallel()
	r := newOffsiteRig(t)
	plain := filepath.Join(r.source, "plain") // of which the filesystem has no checksums
	btrfstest.Run(t, "touch", plain)
	btrfstest.Run(t, "chattr", "+C", plain)
	r.write("plain", 100_000)
	btrfstest.Populate(t, r.source, 1)
	r.saveThree()
	all, scratch := r.snapshots(), btrfstest.New(t, rigSize).Dir
	snapshot := func(i int) string { return filepath.Join(r.source, "snapshot", all[i]) }
	left := func() int {
		t.Helper()
		all, _ := filepath.Glob(filepath.Join(scratch, ".*"))
		more, _ := filepath.Glob(filepath.Join(r.fs.Dir, ".*"))
		return len(all) + len(more)
	}

	if told := r.verifies([]string{testOnlyKillAt + "=committed"}, "", "--scratch", scratch); told.step() != "committed" || left() != 1 {
		t.Fatalf("killed, it leaves %d directories:\n%s", left(), told.stderr)
	}
	told := expect(t, exitDone, r.verifies(nil, "", "--scratch", scratch))
	for i, name := range all {
		if !strings.Contains(told.stdout, name) || !strings.Contains(told.stdout, "compared with "+snapshot(i)+": no differences") {
			t.Errorf("%s is not compared:\n%s", name, told.stdout)
		}
	}
	if n := left(); n > 0 {
		t.Errorf("it leaves %d directories", n)
	}

	deleteSubvolume(t, snapshot(0))
	told = expect(t, exitDone, r.verifies(nil, "/"+r.sourceName()+"/"+all[0], "--scratch", r.fs.Dir), "restored for a while: no differences")
	if strings.Contains(told.stdout, "compared with") {
		t.Errorf("it was compared with what is gone:\n%s", told.stdout)
	}
	btrfstest.Damage(t, filepath.Join(snapshot(1), "plain"), 8192)
	told = expect(t, exitDiffer, r.verifies(nil, "/"+r.sourceName()+"/"+all[1], "--scratch", scratch), "content", "plain", "DIFFERS")

	small := btrfstest.NewOther(t, "ext4", 64<<20).Dir
	expect(t, exitFailed, r.verifies(nil, "", "--scratch", small), "a btrfs with", "--scratch DIR")
	expect(t, exitUsage, invoke(t, nil, "verify", "--scratch", scratch, r.place), "--scratch is where --restore restores")
	btrfstest.Check(t, os.Remove(r.only("backups/*/"+all[0]+".*/data.000000")))
	told = expect(t, exitDiffer, r.verifies(nil, "", "--scratch", scratch))
	if strings.Count(told.stdout, all[0]+", on which it builds, is damaged") != 2 {
		t.Errorf("what builds on the damaged one is not told:\n%s", told.stdout)
	}
	if n := left(); n > 0 {
		t.Errorf("it leaves %d directories", n)
	}
}
