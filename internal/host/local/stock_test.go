package local

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

func TestReceivedLinksAndDevicesAreWhatWasSent(t *testing.T) {
	top := btrfstest.New(t, size).Dir
	home := newSubvolume(t, top, "home")
	btrfstest.Populate(t, home, 1)
	source := open(t, newHost(), top, "source")
	copies := open(t, newHost(), top, "copies")
	parent := ""
	for _, name := range []string{"first", "second"} {
		_, err := source.Take(t.Context(), home, info(t, home).UUID, name)
		btrfstest.Check(t, err)
		var stream bytes.Buffer
		_, err = source.Send(t.Context(), host.SendOrder{Snapshot: name, Parent: parent}, &stream)
		btrfstest.Check(t, err)
		localReceive(t, copies, name, stream.Bytes())
		btrfstest.Equal(t, top+"/source/"+name, top+"/copies/"+name)
		btrfstest.Change(t, home, 2)
		parent = name
	}
}

func TestAFolderThatIsElsewhereByNowIsTheOneThatIsReceivedIn(t *testing.T) {
	d := newFolder(t)
	moved := d.status.Path + "-moved"
	btrfstest.Check(t, os.Rename(d.status.Path, moved))
	btrfstest.Check(t, os.Mkdir(d.status.Path, 0o755))
	localReceive(t, d, "x", streamtest.Stream(1, streamtest.Subvol(), streamtest.Makes(sendstream.CmdMkfile, "f")))
	if entries, err := os.ReadDir(d.status.Path); len(entries) > 0 || err != nil {
		t.Errorf("in its place: %v, %v", entries, err)
	}
	if _, err := os.Stat(moved + "/x/f"); err != nil {
		t.Error(err)
	}
}

func TestTheProgramIsNotRunInADirectoryInTheFoldersPlace(t *testing.T) {
	d := newFolder(t)
	btrfstest.Check(t, os.Rename(d.status.Path, d.status.Path+"-moved"))
	btrfstest.Check(t, os.Mkdir(d.status.Path, 0o755))
	r, err := d.Receive(t.Context(), host.ReceiveOrder{Name: "x", Stock: true})
	btrfstest.Check(t, err)
	if _, err := r.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "another directory") {
		t.Errorf("error: %v", err)
	}
	btrfstest.Check(t, r.Abort(t.Context()))
}
