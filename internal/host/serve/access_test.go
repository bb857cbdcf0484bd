package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"

	"golang.org/x/sys/unix"
)

func TestNothingIsReceivedWhereOtherUsersCanWrite(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	for i, dir := range []string{s.root, s.folder} {
		for _, change := range []func() error{
			func() error { return os.Chmod(dir, 0o775) }, func() error { return os.Chmod(dir, 0o1777) }, func() error { return os.Chown(dir, 1234, -1) },
		} {
			btrfstest.Check(t, change())
			err := c.backUp(s.folder, "20260505-000000", s.stream(theirs, ""), btrfs.UUID{1})
			if err == nil || !strings.Contains(err.Error(), "other users can write to "+dir) || !strings.Contains(hintOf(err), "chown root "+dir) {
				t.Errorf("%d: %v", i, err)
			}
			btrfstest.Check(t, os.Chmod(dir, 0o755))
			btrfstest.Check(t, os.Chown(dir, 0, -1))
		}
	}
	s.outside = s.look()
	s.mustServe(c)
}

func TestNoOtherUserEntersAFolderThatAConfinedAgentMakes(t *testing.T) {
	s := newClientScene(t)
	c := connect(t, s.limits())
	btrfstest.Check(t, c.call(protocol.Mkdir.Name, s.root+"/a/b", nil))
	for _, dir := range []string{"/a", "/a/b"} {
		if st, err := os.Stat(s.root + dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
}

func TestAFolderThatOtherUsersCanEnterIsToldOnce(t *testing.T) {
	s := newClientScene(t)
	for top := s.top; top != "/"; top = filepath.Dir(top) {
		if st, err := os.Stat(top); err == nil && st.Mode()&0o001 == 0 {
			btrfstest.Check(t, os.Chmod(top, st.Mode()|0o055))
			t.Cleanup(func() { _ = os.Chmod(top, st.Mode()) })
		}
	}
	told := func(folder string) (n int) {
		c := connect(t, s.limits())
		defer c.end()
		for i := range 2 {
			var r protocol.ReceiveReply
			order := host.ReceiveOrder{Name: fmt.Sprintf("20260505-00000%d", i), Key: "key"}
			btrfstest.Check(t, c.call(protocol.Receive.Name, protocol.ReceiveCall{Dir: protocol.Dir{Path: folder}, Order: order}, &r))
			if strings.Contains(r.Warning, "chmod 700 "+folder) {
				n++
			}
		}
		return n
	}
	if n := told(s.folder); n != 1 {
		t.Errorf("an open folder is told %d times", n)
	}
	btrfstest.Check(t, unix.Mount("", s.top, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID, ""))
	if n := told(s.folder); n != 0 {
		t.Errorf("one without set-uid programs is told %d times", n)
	}
	btrfstest.Check(t, unix.Mount("", s.top, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	btrfstest.Check(t, os.Chmod(s.folder, 0o700))
	if n := told(s.folder); n != 0 {
		t.Errorf("a closed one is told %d times", n)
	}
	btrfstest.Check(t, os.Chmod(s.folder, 0o755))
	btrfstest.Check(t, os.Chmod(s.root, 0o700))
	if n := told(s.folder); n != 0 {
		t.Errorf("one in a closed directory is told %d times", n)
	}
}

func TestNamesOfEachSchemeAreThoseOfBackups(t *testing.T) {
	l := Limits{AppendOnly: true}
	for name, good := range map[string]bool{
		mine: true, "home-" + mine: true, "home.20260109": true, "home.20260109T1430": true, "home.20260109T1430_12": true,
		"home.20260109T143059+0100": true, "home.20260109T143059Z_1": true,
		"20260109": false, ".20260109T1430": false, "home20260109T1430": false, "home.20260109T1430_": false, "home.20260109T1430_x": false,
		"a/home.20260109": false, "home.20260109\n": false,
	} {
		if err := l.checkName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
