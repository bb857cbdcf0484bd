package local

import (
	"bytes"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/host"
)

func TestOfSeveralCopiesOfAParentTheOneInTheFolderIsBuiltOn(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	home := newSubvolume(t, top, "home")
	source := open(t, newHost(), top, "source")
	folders := []*Dir{open(t, newHost(), top, "a"), open(t, newHost(), top, "b")}
	parent := ""
	for _, name := range []string{"first", "second"} {
		_, err := source.Take(t.Context(), home, info(t, home).UUID, name)
		btrfstest.Check(t, err)
		var stream bytes.Buffer
		_, err = source.Send(t.Context(), host.SendOrder{Snapshot: name, Parent: parent}, &stream)
		btrfstest.Check(t, err)
		for _, d := range folders {
			localReceive(t, d, name, stream.Bytes())
		}
		parent = name
	}
	for _, d := range folders {
		if got, want := info(t, d.status.Path, "second").ParentUUID, info(t, d.status.Path, "first").UUID; got != want {
			t.Errorf("in %s, the parent is %s instead of %s", d.status.Path, got, want)
		}
	}
}
