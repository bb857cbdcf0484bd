package host_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/space"
)

func TestWhatDeletingWouldFreeIsToldOfSubvolumesAndOfHardLinks(t *testing.T) {
	btrfstest.RequireRoot(t)
	onBtrfs, linked := btrfstest.New(t, testSize).Dir, newDir(t, btrfstest.NewOther(t, "ext4", testSize).Dir, "linked")
	for _, name := range []string{"a", "b"} {
		newSubvolume(t, onBtrfs, name)
		newDir(t, linked, name)
		check(t, os.WriteFile(onBtrfs+"/"+name+"/own", make([]byte, 8192), 0o644))
		check(t, os.WriteFile(linked+"/"+name+"/own", make([]byte, 8192), 0o644))
	}
	check(t, os.WriteFile(linked+"/a/shared", make([]byte, 1<<20), 0o644))
	check(t, os.Link(linked+"/a/shared", linked+"/b/shared"))
	check(t, os.Link(linked+"/a/own", linked+"/a/again"))
	run(t, "cp", "--reflink", onBtrfs+"/a/own", onBtrfs+"/b/cloned")
	run(t, "sync", "-f", onBtrfs)
	run(t, "sync", "-f", linked)
	const dir, unknown = 4096, space.Unknown
	groups := [][]string{{"a"}, {"b"}, {"a", "b"}, {"missing"}}
	for name, h := range map[string]host.Host{"local": local.New(silent), "agent": newAgent(t)} {
		for _, test := range []struct {
			folder string
			within time.Duration
			want   []int64
		}{
			{onBtrfs, 0, []int64{0, 8192, 16384, unknown}},
			{onBtrfs, time.Minute, []int64{0, 8192, 16384, unknown}},
			{onBtrfs, 1, []int64{unknown, unknown, unknown, unknown}},
			{linked, 0, []int64{8192 + dir, 8192 + dir, 1<<20 + 2*8192 + 2*dir, unknown}},
			{linked, time.Minute, []int64{unknown, unknown, unknown, unknown}},
		} {
			d := open(t, h, test.folder)
			got, err := d.Freed(t.Context(), groups, test.within)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%s: %s within %s: %d, want %d, error: %v", name, test.folder, test.within, got, test.want, err)
			}
		}
	}
}
