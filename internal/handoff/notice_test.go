package handoff

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestANoticeIsOfItsLivingProcessOnly(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	btrfstest.Check(t, err)
	defer dir.Close()
	l, err := Listen()
	btrfstest.Check(t, err)
	defer l.Close()
	n, err := Post(dir, "first", l.Address)
	btrfstest.Check(t, err)
	if _, err := Post(dir, "first", l.Address); !errors.Is(err, ErrTaken) {
		t.Errorf("posted twice: %v", err)
	}
	btrfstest.Check(t, os.WriteFile(filepath.Join(dir.Name(), "first-killed"), []byte("@btrfs-backup/GONE"), 0o600))
	if got := Noticed(dir, "first"); got != l.Address {
		t.Errorf("noticed %q, want %q", got, l.Address)
	}
	if all, err := Notices(dir, "first"); err != nil || len(all) != 1 || all[0].Address != l.Address {
		t.Errorf("notices: %v, %v", all, err)
	}
	again, err := Post(dir, "first-killed", l.Address)
	btrfstest.Check(t, err)
	again.Remove()
	n.Remove()
	if left, _ := filepath.Glob(dir.Name() + "/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestANoticeIsNoLinkAndNobodyElses(t *testing.T) {
	btrfstest.RequireRoot(t)
	dir, err := os.Open(t.TempDir())
	btrfstest.Check(t, err)
	defer dir.Close()
	victim := filepath.Join(dir.Name(), "victim")
	btrfstest.Check(t, os.WriteFile(victim, []byte("theirs"), 0o600))
	btrfstest.Check(t, os.Symlink("victim", filepath.Join(dir.Name(), "link")))
	if _, err := Post(dir, "link", "@btrfs-backup/X"); err == nil {
		t.Error("a notice is posted through a link")
	}
	if content, err := os.ReadFile(victim); err != nil || string(content) != "theirs" {
		t.Errorf("the file behind it is %q, %v", content, err)
	}
	theirs := filepath.Join(dir.Name(), "theirs")
	btrfstest.Check(t, os.WriteFile(theirs, nil, 0o666))
	btrfstest.Check(t, os.Chown(theirs, 65534, 65534))
	n, err := Post(dir, "theirs", "@btrfs-backup/X")
	btrfstest.Check(t, err)
	defer n.Remove()
	if st, err := os.Stat(theirs); err != nil || st.Mode() != 0o600 {
		t.Errorf("it is %v, %v", st.Mode(), err)
	}
}
