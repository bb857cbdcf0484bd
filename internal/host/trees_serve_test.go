package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/tree"
	"btrfs-backup/transport"
	"btrfs-backup/transport/ssh"
	"btrfs-backup/transport/wire"
)

func TestAClientWithLimitsKeepsNoTrees(t *testing.T) {
	folder := t.TempDir()
	for _, limits := range []Limits{{Root: folder}, {AppendOnly: true}, {ReceiveOnly: true}, {SendOnly: true}} {
		c := connect(t, ServeOptions{Limits: limits})
		for verb, args := range map[string]any{
			verbOpenTrees: openTreesCall{Path: folder + "/new", Options: tree.OpenOptions{Create: true}},
			verbListTrees: dirName{Path: folder}, verbMarkTrees: dirName{Path: folder}, verbIndexTrees: dirName{Path: folder},
			verbBeginTree:   beginTreeCall{dirName{Path: folder}, tree.Order{Name: "20260101-000000"}},
			verbKeepTree:    treeCall{dirName{Path: folder}, "20260101-000000"},
			verbFinishTree:  finishTreeCall{dirName{Path: folder}, tree.Result{Name: "20260101-000000"}},
			verbDeleteTrees: deleteTreesCall{dirName{Path: folder}, []string{"20260101-000000"}},
			verbFollowTree:  treeCall{dirName{Path: folder}, "20260101-000000"},
			verbExportTree:  treeCall{dirName{Path: folder}, "20260101-000000"},
			verbVerifyTree:  verifyTreeCall{Dir: dirName{Path: folder}, Name: "20260101-000000"},
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

func TestAnAgentOfAnEarlierVersionIsTold(t *testing.T) {
	a := &Agent{machine: ssh.New(ssh.Target{Host: "nas"}, ssh.Options{}), conn: connect(t, ServeOptions{}).conn}
	err := a.callTrees(t.Context(), "frob-tree", struct{}{}, nil, nil)
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || hinted.Hint() != "install the same version on both machines" || !strings.Contains(err.Error(), "ssh://nas") {
		t.Errorf("%v", err)
	}
}

func TestFinishingATreeEndsWithTheConnection(t *testing.T) {
	btrfstest.RequireRoot(t)
	const name = "20260101-000000"
	folder := btrfstest.New(t, 512<<20).Dir
	c := connect(t, ServeOptions{})
	var status Status
	btrfstest.Check(t, c.call(verbOpenTrees, openTreesCall{Path: folder}, &status))
	dir := dirName{status.Path, status.Place}
	var work tree.Work
	btrfstest.Check(t, c.call(verbBeginTree, beginTreeCall{dir, tree.Order{Name: name, Source: "here"}}, &work))
	for i := range 64 {
		btrfstest.Check(t, os.WriteFile(filepath.Join(work.Path, fmt.Sprint(i)), slices.Repeat([]byte{byte(i)}, 4<<20), 0o600))
	}
	err := fromWire(c.conn.Call(t.Context(), verbFinishTree, finishTreeCall{dir, tree.Result{Name: name, Source: "here", MaxDelete: 100}}, nil,
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
	c = connect(t, ServeOptions{})
	btrfstest.Check(t, c.call(verbBeginTree, beginTreeCall{dir, tree.Order{Name: "20260102-000000", Source: "here"}}, &work))
	if !work.Resumed {
		t.Error("the next run does not go on with it")
	}
}

func TestAnotherFolderInThePlaceOfTheFirstIsNotWorkedOn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	c := connect(t, ServeOptions{})
	var status Status
	btrfstest.Check(t, c.call(verbOpenTrees, openTreesCall{folder, tree.OpenOptions{Create: true}}, &status))
	dir := dirName{status.Path, status.Place}
	btrfstest.Check(t, c.call(verbMarkTrees, dir, nil))
	btrfstest.Check(t, c.call(verbSync, dir, nil))
	btrfstest.Check(t, os.Rename(folder, folder+" away"))
	btrfstest.Check(t, os.Mkdir(folder, 0o755))
	for verb, args := range map[string]any{verbMarkTrees: dir, verbBeginTree: beginTreeCall{dir, tree.Order{Name: "20260101-000000"}}, verbSync: dir} {
		if err := c.call(verb, args, nil); err == nil || !strings.Contains(err.Error(), "another directory than before") {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

func TestRsyncRunsTheProgramWhateverItsName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's a \"%H\" % $HOME")
	btrfstest.Check(t, os.Mkdir(dir, 0o755))
	program := filepath.Join(dir, "it")
	btrfstest.Check(t, os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s|' \"$1\" \"$2\" >\"$(dirname \"$0\")/told\"\n"), 0o755))
	argv := []string{program, "two words", "@it's"}
	for _, args := range [][]string{{"-e", rshOption(argv), "remote:/nowhere"}, {"rsync://nowhere.invalid/module"}} {
		cmd := exec.CommandContext(t.Context(), "rsync", args...)
		cmd.Env = append(os.Environ(), connectProgram(argv))
		_ = cmd.Run() // it gets no answer
		if told, err := os.ReadFile(filepath.Join(dir, "told")); string(told) != "two words|@it's|" {
			t.Errorf("%q ran it with %q, %v", args, told, err)
		}
		_ = os.Remove(filepath.Join(dir, "told"))
	}
}

func TestASlowLinkHasFewNoticesToCarry(t *testing.T) {
	var told []int64
	c := counting(func(v any) { told = append(told, v.(int64)) })
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
