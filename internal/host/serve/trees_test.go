package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

func TestAClientWithLimitsKeepsNoTrees(t *testing.T) {
	folder := t.TempDir()
	for _, limits := range []Limits{{Root: folder}, {AppendOnly: true}, {ReceiveOnly: true}, {SendOnly: true}} {
		c := connect(t, Options{Limits: limits})
		for verb, args := range map[string]any{
			protocol.OpenTrees.Name: protocol.OpenTreesCall{Path: folder + "/new", Options: tree.OpenOptions{Create: true}},
			protocol.ListTrees.Name: protocol.Dir{Path: folder}, protocol.MarkTrees.Name: protocol.Dir{Path: folder}, protocol.IndexTrees.Name: protocol.Dir{Path: folder},
			protocol.BeginTree.Name:       protocol.BeginTreeCall{Dir: protocol.Dir{Path: folder}, Order: tree.Order{Name: "20260101-000000"}},
			protocol.GrowTree.Name:        protocol.GrowTreeCall{Dir: protocol.Dir{Path: folder}, Growth: tree.Growth{Name: "20260101-000000", Base: "20260102-000000"}},
			protocol.SavePartialTree.Name: protocol.NameCall{Dir: protocol.Dir{Path: folder}, Name: "20260101-000000"},
			protocol.FinishTree.Name:      protocol.FinishTreeCall{Dir: protocol.Dir{Path: folder}, Result: tree.Result{Name: "20260101-000000"}},
			protocol.DeleteTrees.Name:     protocol.DeleteTreesCall{Dir: protocol.Dir{Path: folder}, Names: []string{"20260101-000000"}},
			protocol.FollowTree.Name:      protocol.NameCall{Dir: protocol.Dir{Path: folder}, Name: "20260101-000000"},
			protocol.ExportTree.Name:      protocol.NameCall{Dir: protocol.Dir{Path: folder}, Name: "20260101-000000"},
		} {
			var hinted interface{ Hint() string }
			err := c.call(verb, args, nil)
			if !errors.As(err, &hinted) || !strings.Contains(err.Error(), "refused") || !strings.Contains(hinted.Hint(), "btrfs-backup freeze") {
				t.Errorf("%+v: %s: %v", limits, verb, err)
			}
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestFinishingATreeEndsWithTheConnection(t *testing.T) {
	btrfstest.RequireRoot(t)
	const name = "20260101-000000"
	folder := btrfstest.New(t, 512<<20).Dir
	c := connect(t, Options{})
	var status host.Status
	btrfstest.Check(t, c.call(protocol.OpenTrees.Name, protocol.OpenTreesCall{Path: folder}, &status))
	dir := protocol.Dir{Path: status.Path, DirID: status.DirID}
	var work tree.Work
	btrfstest.Check(t, c.call(protocol.BeginTree.Name, protocol.BeginTreeCall{Dir: dir, Order: tree.Order{Name: name, Origin: tree.Origin{Source: "here"}}}, &work))
	for i := range 64 {
		btrfstest.Check(t, os.WriteFile(filepath.Join(work.Path, fmt.Sprint(i)), slices.Repeat([]byte{byte(i)}, 4<<20), 0o600))
	}
	err := protocol.FromWire(c.conn.Call(t.Context(), protocol.FinishTree.Name, protocol.FinishTreeCall{Dir: dir, Result: tree.Result{Name: name, Origin: tree.Origin{Source: "here"}, MaxDelete: 100}}, nil,
		func(wire.Raw) { go c.conn.Close() }))
	if !errors.Is(err, transport.ErrDisconnected) {
		t.Errorf("error: %v", err)
	}
	c.end()
	if _, err := os.Stat(filepath.Join(folder, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was finished all the same: %v", err)
	}
	if _, err := os.Stat(filepath.Join(folder, btrfs.Incoming(name))); err != nil {
		t.Errorf("what was copied is gone: %v", err)
	}
	c = connect(t, Options{})
	btrfstest.Check(t, c.call(protocol.BeginTree.Name, protocol.BeginTreeCall{Dir: dir, Order: tree.Order{Name: "20260102-000000", Origin: tree.Origin{Source: "here"}}}, &work))
	if !work.Resumed {
		t.Error("the next run does not go on with it")
	}
}

func TestAnotherFolderInThePlaceOfTheFirstIsNotWorkedOn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	c := connect(t, Options{})
	var status host.Status
	btrfstest.Check(t, c.call(protocol.OpenTrees.Name, protocol.OpenTreesCall{Path: folder, Options: tree.OpenOptions{Create: true}}, &status))
	dir := protocol.Dir{Path: status.Path, DirID: status.DirID}
	btrfstest.Check(t, c.call(protocol.MarkTrees.Name, dir, nil))
	btrfstest.Check(t, os.Rename(folder, folder+" away"))
	btrfstest.Check(t, os.Mkdir(folder, 0o755))
	for verb, args := range map[string]any{protocol.MarkTrees.Name: dir, protocol.BeginTree.Name: protocol.BeginTreeCall{Dir: dir, Order: tree.Order{Name: "20260101-000000"}}} {
		if err := c.call(verb, args, nil); err == nil || !strings.Contains(err.Error(), "another directory than before") {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

func TestASlowLinkHasFewNoticesToCarry(t *testing.T) {
	var told []int64
	c := counting(func(v int64) { told = append(told, v) })
	for range 100000 {
		c.add(1)
	}
	c.flush()
	c.flush()
	var sum int64
	for _, n := range told {
		sum += n
	}
	if sum != 100000 || len(told) > 1000 {
		t.Errorf("%d bytes in %d notices", sum, len(told))
	}
}
