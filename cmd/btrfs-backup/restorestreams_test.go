package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

func TestARestoreFromStreamsThatIsKilledGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	source, store := newSource(t, smallFS(t).Dir, "home"), t.TempDir()
	place := "shell://cat >'" + store + "'/$BTRFS_BACKUP_SNAPSHOT"
	taken := series(t, 3, source, place)
	far := newRemote(t, sshtest.Options{})
	target := filepath.Join(smallFS(t).Dir, "home")
	expect(t, exitDone, invoke(t, nil, append(append([]string{"restore", "--streams"}, far.options...), filepath.Join(store, taken[1]),
		filepath.Join(store, taken[2]), filepath.Join(store, taken[0]), far.place(target))...))
	want(t, "on another machine", names(t, filepath.Join(target, "snapshot")), taken[2])
	for _, step := range []string{"committed", "subvolume deleted", "writable snapshot made", "subvolume in its place"} {
		target := filepath.Join(smallFS(t).Dir, "home")
		args := []string{"restore", "--from-stream", "cat '" + store + "'/{snapshot}", taken[2], taken[0], taken[1], target}
		if killed := invoke(t, []string{testOnlyKillAt + "=" + step}, args...); killed.step() != step {
			t.Fatalf("not killed at %q: %s", step, killed.stderr)
		}
		if _, err := os.Stat(target); err == nil && step != "subvolume in its place" {
			t.Errorf("killed at %q, there is a target", step)
		}
		expect(t, exitDone, invoke(t, nil, args...))
		want(t, "in it", names(t, filepath.Join(target, "snapshot")), taken[2])
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(target), ".*")); len(left) > 0 {
			t.Errorf("killed at %q, there is %q", step, left)
		}
		if err := os.RemoveAll(filepath.Join(target, "snapshot", ".latest")); err != nil {
			t.Error(err)
		}
		btrfstest.Equal(t, filepath.Join(source, "snapshot", taken[2], "file"), filepath.Join(target, "file"))
	}
}
