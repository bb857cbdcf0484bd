package btrfs_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func sizes(t testing.TB, dir *os.File) map[uint64]btrfs.Size {
	t.Helper()
	sizes, err := btrfs.Sizes(dir)
	check(t, err)
	return sizes
}

func TestSizesAreThoseOfTheQuotaGroups(t *testing.T) {
	source, folder := newSource(t)
	top := open(t, folder.Name()+"/..")
	if got := sizes(t, top); len(got) > 0 {
		t.Errorf("without quotas: %v", got)
	}
	btrfstest.Run(t, "btrfs", "quota", "enable", top.Name())
	btrfstest.Run(t, "btrfs", "qgroup", "create", "1/100", top.Name())
	check(t, os.WriteFile(source.Name()+"/shared", bytes.Repeat([]byte("s"), 1<<20), 0o644))
	s := snapshot(t, source, folder, "snapshot")
	check(t, os.WriteFile(source.Name()+"/exclusive", bytes.Repeat([]byte("x"), 3<<20), 0o644))
	btrfstest.Run(t, "sync", "-f", top.Name())
	btrfstest.Run(t, "btrfs", "quota", "rescan", "-w", top.Name())

	got := sizes(t, top)
	for _, dir := range []*os.File{source, s} {
		id := info(t, dir).ID
		want := fmt.Sprintf("0/%d %d %d", id, got[id].Referenced, got[id].Exclusive)
		told := btrfstest.Run(t, "btrfs", "qgroup", "show", "--raw", top.Name())
		if !strings.Contains(strings.Join(strings.Fields(told), " "), want) {
			t.Errorf("%s is not what the program tells:\n%s", want, told)
		}
	}
	if size := got[info(t, source).ID]; size.Referenced < 4<<20 || size.Exclusive < 3<<20 || size.Exclusive >= 4<<20 {
		t.Errorf("the source: %+v", size)
	}
	if size := got[info(t, s).ID]; size.Referenced < 1<<20 || size.Exclusive >= 1<<20 {
		t.Errorf("the snapshot: %+v", size)
	}
	for id := range got {
		if id != 5 && id != info(t, source).ID && id != info(t, s).ID {
			t.Errorf("there is no subvolume %d", id)
		}
	}
}
