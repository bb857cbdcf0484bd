package serve

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func TestAClientMakesSetsAndRemovesThemAsItsLimitsAllow(t *testing.T) {
	s := newClientScene(t)
	dir, member := protocol.Dir{Path: filepath.Dir(s.folder)}, filepath.Base(s.folder)
	link := filepath.Join(dir.Path, mine, member)
	newSet := protocol.MakeSetCall{Dir: dir, Name: mine, Members: []string{member}}
	remove := protocol.RemoveSetsCall{Dir: dir, Names: []string{mine}}
	want := func(o Limits, verb string, call any, allowed bool) {
		t.Helper()
		o.Root = s.root
		if err := connect(t, Options{Limits: o}).ask(verb, call); (err == nil) != allowed {
			t.Errorf("%s with %+v: %v", verb, o, err)
		}
	}
	want(Limits{SendOnly: true}, protocol.MakeSet.Name, newSet, false)
	for _, o := range []Limits{{}, {AppendOnly: true}, {ReceiveOnly: true}} {
		want(o, protocol.MakeSet.Name, newSet, true)
		if _, err := os.Stat(link); err != nil {
			t.Error(err)
		}
	}
	want(Limits{SendOnly: true}, protocol.RemoveSets.Name, remove, false)
	want(Limits{AppendOnly: true}, protocol.RemoveSets.Name, remove, false)
	if _, err := os.Stat(link); err != nil {
		t.Error(err)
	}
	moved := filepath.Join(s.folder, "moved")
	btrfstest.Check(t, os.Rename(filepath.Join(s.folder, mine), moved))
	want(Limits{AppendOnly: true}, protocol.RemoveSets.Name, remove, true)
	btrfstest.Check(t, os.Rename(moved, filepath.Join(s.folder, mine)))
	want(Limits{}, protocol.MakeSet.Name, newSet, true)
	want(Limits{}, protocol.RemoveSets.Name, remove, true)
	if _, err := os.Lstat(filepath.Dir(link)); err == nil {
		t.Error("the set is still there")
	}
}
