package local

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// sends takes snapshots, and gives the streams of the first as a complete copy and of the second as an increment.
func sends(t *testing.T, source *Dir, home string) (first, second []byte) {
	t.Helper()
	var streams [2]bytes.Buffer
	for i, name := range []string{"first", "second"} {
		_, err := source.Take(t.Context(), home, info(t, home).UUID, name)
		btrfstest.Check(t, err)
		order := host.SendOrder{Snapshot: name}
		if i > 0 {
			order.Parent = "first"
		}
		_, err = source.Send(t.Context(), order, &streams[i])
		btrfstest.Check(t, err)
	}
	return streams[0].Bytes(), streams[1].Bytes()
}

// buildsOn fails the test unless the parent of a subvolume is another one.
func buildsOn(t *testing.T, path, parent string) {
	t.Helper()
	if got, want := info(t, path).ParentUUID, info(t, parent).UUID; got != want {
		t.Errorf("the parent of %s is %s instead of %s, %s", path, got, parent, want)
	}
}

func TestOfSeveralCopiesOfAParentTheOneInTheFolderIsBuiltOn(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	first, second := sends(t, open(t, newHost(), top, "source"), newSubvolume(t, top, "home"))
	folders := []*Dir{open(t, newHost(), top, "a"), open(t, newHost(), top, "b")}
	for _, d := range folders {
		localReceive(t, d, "first", first)
	}
	for _, d := range folders {
		localReceive(t, d, "second", second)
		buildsOn(t, d.status.Path+"/second", d.status.Path+"/first")
	}
}

func TestAParentInAnotherFolderIsBuiltOn(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	first, second := sends(t, open(t, newHost(), top, "source"), newSubvolume(t, top, "home"))
	there := btrfstest.New(t, size).Dir
	localReceive(t, open(t, newHost(), there, "a"), "first", first)
	localReceive(t, open(t, newHost(), there, "b"), "second", second)
	buildsOn(t, there+"/b/second", there+"/a/first")
}

// The copy was sent from another copy, so that it has a transaction of that filesystem.
func TestACopyThatCameAnotherWayIsBuiltOnInItsFolderOnly(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	first, second := sends(t, open(t, newHost(), top, "source"), newSubvolume(t, top, "home"))
	between := open(t, newHost(), btrfstest.New(t, size).Dir, "between")
	for _, name := range []string{"x", "y", "z"} { // so that the transactions differ
		newSubvolume(t, between.status.Path, name)
		btrfstest.Check(t, btrfs.SyncFilesystem(between.dir))
	}
	localReceive(t, between, "first", first)
	var again bytes.Buffer
	_, err := between.Send(t.Context(), host.SendOrder{Snapshot: "first"}, &again)
	btrfstest.Check(t, err)
	there := btrfstest.New(t, size).Dir
	a := open(t, newHost(), there, "a")
	localReceive(t, a, "first", again.Bytes())
	if got, other := info(t, there, "a/first").SentIn, info(t, top, "source/first").ChangedIn; got == other {
		t.Fatalf("both were sent in transaction %d", got)
	}
	localReceive(t, a, "second", second)
	buildsOn(t, there+"/a/second", there+"/a/first")
	findsNoParent(t, open(t, newHost(), there, "b"), second)
}

// findsNoParent fails the test unless a folder has nothing that a stream can build upon.
func findsNoParent(t *testing.T, d *Dir, stream []byte) {
	t.Helper()
	r, err := d.Receive(t.Context(), host.ReceiveOrder{Name: "second"})
	btrfstest.Check(t, err)
	_, _ = r.Write(stream)
	if _, err := r.Close(t.Context()); !errors.Is(err, receive.ErrNoParent) {
		t.Errorf("error: %v", err)
	}
	btrfstest.Check(t, r.Abort(t.Context()))
}

func TestWhatIsNoCopyAnyMoreIsNotBuiltOn(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	first, second := sends(t, open(t, newHost(), top, "source"), newSubvolume(t, top, "home"))
	d := newFolder(t)
	localReceive(t, d, "first", first)
	btrfstest.Check(t, btrfs.SetReadOnly(d.dir, "first", false))
	findsNoParent(t, d, second)
	btrfstest.Check(t, os.WriteFile(d.status.Path+"/first/altered", nil, 0o644))
	btrfstest.Check(t, btrfs.SetReadOnly(d.dir, "first", true))
	findsNoParent(t, d, second)
}
