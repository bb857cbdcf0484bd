package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/agent"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/grow"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

// eachTrees runs a test on all kinds of host that keep trees, each with a folder of its own, on btrfs and on another filesystem.
func eachTrees(t *testing.T, test func(t *testing.T, h host.Trees, folder string)) {
	btrfstest.RequireRoot(t)
	tops := map[string]string{"btrfs": btrfstest.New(t, testSize).Dir, "ext4": btrfstest.NewOther(t, "ext4", testSize).Dir}
	for _, fsType := range []string{"btrfs", "ext4"} {
		t.Run("local on "+fsType, func(t *testing.T) { test(t, local.New(silent), tops[fsType]+"/local/new") })
		t.Run("agent on "+fsType, func(t *testing.T) { test(t, newAgent(t), tops[fsType]+"/agent/new") })
	}
}

func openTrees(t testing.TB, h host.Trees, folder string) *host.TreeDir {
	t.Helper()
	d, err := h.OpenTrees(t.Context(), folder, tree.OpenOptions{Create: true})
	check(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// addTree makes a backup of files, each of which holds its name. It tells how many bytes were read.
func addTree(t testing.TB, d *host.TreeDir, name, base string, files ...string) (record tree.Record, read int64) {
	t.Helper()
	w, err := d.BeginTree(t.Context(), tree.Order{Name: name, Base: base, Origin: tree.Origin{Source: "here"}})
	check(t, err)
	for _, file := range files {
		check(t, os.WriteFile(filepath.Join(w.Path, file), []byte(file), 0o644))
	}
	check(t, d.SavePartialTree(t.Context(), name))
	record, err = d.FinishTree(t.Context(), result(name, base), func(n int64) { read += n })
	check(t, err)
	if record.Name != name || record.Files != int64(len(files)) || !record.Started.Equal(started) {
		t.Errorf("the record of %d files is %+v", len(files), record)
	}
	return record, read
}

var started = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)

func result(name, base string) tree.Result {
	return tree.Result{Name: name, Base: base, Origin: tree.Origin{Source: "here"}, Started: started, MaxDelete: 50, Dedup: true}
}

// numbered gives the names of n files.
func numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("file %d\xff", i))
	}
	return names
}

func TestBackupsOfTreesAreKeptOnAnyHost(t *testing.T) {
	eachTrees(t, func(t *testing.T, h host.Trees, folder string) {
		if _, err := h.OpenTrees(t.Context(), folder, tree.OpenOptions{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a missing folder: %v", err)
		}
		d := openTrees(t, h, folder)
		if s := d.Status(); s.Path != folder || s.DirID == (btrfs.DirID{}) {
			t.Errorf("the status is %+v", s)
		}
		id, err := d.MarkTrees(t.Context())
		check(t, err)
		first, read := addTree(t, d, "20260101-000000", "", numbered(700)...)
		if first.Bytes < 700*6 || read < first.Bytes {
			t.Errorf("%d bytes were told of %d", read, first.Bytes)
		}
		addTree(t, d, "20260102-000000", "20260101-000000", append(numbered(700), oddNames[0])...)
		l, err := d.ListTrees(t.Context())
		check(t, err)
		if id == "" || l.ID != id || len(l.Backups) != 2 || l.Backups[0].Bytes != first.Bytes || l.Free == 0 {
			t.Errorf("the listing with ID %q is %+v", id, l)
		}
		indexed, err := d.IndexTrees(t.Context(), tree.IndexOptions{Progress: func(int64) {}})
		if err != nil || indexed.Trees == 0 {
			t.Errorf("indexed: %+v, %v", indexed, err)
		}
		deleted, err := d.DeleteTrees(t.Context(), []string{"20260101-000000", "20200101-000000"})
		if err == nil || !slices.Equal(deleted, []string{"20260101-000000"}) {
			t.Errorf("deleted %q, %v", deleted, err)
		}
		wantNames(t, folder, ".btrfs-backup", "20260102-000000")
	})
}

func TestDifferencesOfATreeAreAllTold(t *testing.T) {
	eachTrees(t, func(t *testing.T, h host.Trees, folder string) {
		d := openTrees(t, h, folder)
		const name = "20260101-000000"
		names := numbered(700)
		addTree(t, d, name, "", names...)
		verify := func() (paths []string, v tree.Verified) {
			var read, total int64
			v, err := d.VerifyTree(t.Context(), name, tree.VerifyOptions{}, func(diff tree.Difference) {
				if diff.Kind == "mode" {
					paths = append(paths, diff.Path)
				}
			}, func(r, t int64) { read, total = r, t })
			check(t, err)
			if v.Bytes == 0 || read != v.Bytes || total != v.Bytes {
				t.Errorf("%d of %d bytes were told, %d were read", read, total, v.Bytes)
			}
			return paths, v
		}
		if paths, v := verify(); len(paths) != 0 || v.Differences != 0 || v.Files != int64(len(names)) {
			t.Errorf("%q, %+v", paths, v)
		}
		if d.Status().Btrfs {
			check(t, btrfs.SetReadOnly(btrfstest.Open(t, folder), name, false))
		}
		for _, file := range names {
			check(t, os.Chmod(filepath.Join(folder, name, file), 0o600))
		}
		paths, v := verify()
		slices.Sort(paths)
		slices.Sort(names)
		if !slices.Equal(paths, names) || v.Differences < int64(len(names)) {
			t.Errorf("%d paths of %d differences are told, want %d", len(paths), v.Differences, len(names))
		}
		if _, err := d.VerifyTree(t.Context(), "20200101-000000", tree.VerifyOptions{}, func(tree.Difference) {}, unwatched); err == nil {
			t.Error("a backup that is not there is verified")
		}
	})
}

func unwatched(int64, int64) {}

func TestATreeGrowsOutOfItsBase(t *testing.T) {
	eachTrees(t, func(t *testing.T, h host.Trees, folder string) {
		d := openTrees(t, h, folder)
		const base, name = "20260101-000000", "20260102-000000"
		addTree(t, d, base, "", numbered(700)...)
		w, err := d.BeginTree(t.Context(), tree.Order{Name: name, Base: base, Origin: tree.Origin{Source: "here"}})
		check(t, err)
		changed, from, to, more := numbered(5)[1], numbered(5)[2], oddNames[0], "more"
		growth := func(anew ...string) tree.Growth {
			return tree.Growth{Name: name, Base: base, Changes: grow.Changes{Gone: []string{changed}, Moved: []grow.Move{{From: from, To: to}},
				Links: []grow.Move{{From: from, To: more}}, Anew: append(anew, changed, ".")}}
		}
		if d.Status().Btrfs { // where nothing is linked
			if err := d.GrowTree(t.Context(), growth()); err == nil || !strings.Contains(err.Error(), "snapshot") {
				t.Errorf("on btrfs: %v", err)
			}
			if _, err := d.FinishTree(t.Context(), result(name, base), nil); err != nil {
				t.Errorf("the partial copy was not left alone: %v", err)
			}
			return
		}
		grown := result(name, base)
		grown.Grew = true
		for _, anew := range []string{"../" + base, "/etc", "x\x00../y", ""} {
			if err := d.GrowTree(t.Context(), growth(anew)); err == nil {
				t.Errorf("it grew with %q", anew)
			}
		}
		for _, g := range []tree.Growth{{Name: "20200101-000000", Base: base}, {Name: name, Base: "20200101-000000"}, {Name: name, Base: "../" + base}, {Name: name, Base: ".btrfs-backup"},
			{Name: name, Base: base, Changes: grow.Changes{Gone: []string{"none"}}}} {
			if err := d.GrowTree(t.Context(), g); err == nil {
				t.Errorf("%+v grew", g)
			}
		}
		if _, err := d.FinishTree(t.Context(), grown, nil); err == nil {
			t.Error("what did not grow is finished as if it had")
		}
		check(t, d.GrowTree(t.Context(), growth()))
		if err := d.GrowTree(t.Context(), growth()); err == nil || !strings.Contains(err.Error(), "something was copied already") {
			t.Errorf("it grew twice: %v", err)
		}
		check(t, os.WriteFile(filepath.Join(w.Path, changed), []byte("other"), 0o644))
		record, err := d.FinishTree(t.Context(), grown, nil)
		if err != nil || record.Files != 701 {
			t.Errorf("%+v, %v", record, err)
		}
		for at, was := range map[string]string{to: from, more: from, numbered(5)[3]: numbered(5)[3]} {
			a, errA := os.Stat(filepath.Join(folder, name, at))
			b, errB := os.Stat(filepath.Join(folder, base, was))
			if err := errors.Join(errA, errB); err != nil || !os.SameFile(a, b) {
				t.Errorf("%q is not %q: %v", at, was, err)
			}
		}
		v, err := d.VerifyTree(t.Context(), name, tree.VerifyOptions{}, func(diff tree.Difference) { t.Errorf("%+v", diff) }, unwatched)
		if err != nil || v.Files != 701 {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func TestChecksumsOfATreeAreExported(t *testing.T) {
	eachTrees(t, func(t *testing.T, h host.Trees, folder string) {
		d := openTrees(t, h, folder)
		const name = "20260101-000000"
		addTree(t, d, name, "", numbered(700)...)
		var list bytes.Buffer
		err := d.ExportTree(t.Context(), name, &list)
		check(t, err)
		sha256sum := exec.Command("sha256sum", "--check", "--strict")
		sha256sum.Dir, sha256sum.Stdin = filepath.Join(folder, name), &list
		if said, err := sha256sum.CombinedOutput(); err != nil || bytes.Count(said, []byte(": OK\n")) != 700 {
			t.Errorf("%v:\n%s", err, said)
		}
		if err := d.ExportTree(t.Context(), "20200101-000000", io.Discard); err == nil {
			t.Error("a backup that is not there is exported")
		}
		if err := d.ExportTree(t.Context(), name, fullDisk{}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("what cannot be written: %v", err)
		}
	})
}

// A fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestErrorsOfTreesAreFoundOnAnyHost(t *testing.T) {
	eachTrees(t, func(t *testing.T, h host.Trees, folder string) {
		d := openTrees(t, h, folder)
		var hinted interface{ Hint() string }
		_, err := h.OpenTrees(t.Context(), folder, tree.OpenOptions{MountPoint: filepath.Dir(folder)})
		if !errors.Is(err, tree.ErrNotMounted) || !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("no mount point: %v", err)
		}
		check(t, os.Mkdir(folder+"/foreign", 0o755))
		_, err = d.VerifyTree(t.Context(), "foreign", tree.VerifyOptions{}, func(tree.Difference) {}, unwatched)
		if !errors.Is(err, tree.ErrNoManifest) {
			t.Errorf("no manifest: %v", err)
		}
		addTree(t, d, "20260101-000000", "", numbered(200)...)
		w, err := d.BeginTree(t.Context(), tree.Order{Name: "20260102-000000", Base: "20260101-000000", Origin: tree.Origin{Source: "here"}})
		check(t, err)
		for _, file := range numbered(200) {
			check(t, os.RemoveAll(filepath.Join(w.Path, file)))
		}
		_, err = d.FinishTree(t.Context(), result("20260102-000000", "20260101-000000"), nil)
		var gone *tree.TooManyGoneError
		if !errors.As(err, &gone) || gone.Gone != 200 || gone.Had != 200 || gone.Percent != 50 || gone.Base != "20260101-000000" {
			t.Errorf("too many gone: %v, %+v", err, gone)
		}
		if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--max-delete") {
			t.Errorf("no hint: %v", err)
		}
	})
}

func TestAFolderIsLockedAgainBeforeItIsWorkedOnAfterABreak(t *testing.T) {
	btrfstest.RequireRoot(t)
	work := map[string]func(t *testing.T, d *host.TreeDir) error{
		"on trees": func(t *testing.T, d *host.TreeDir) error { return d.SavePartialTree(t.Context(), "20260101-000000") },
		"on subvolumes": func(t *testing.T, d *host.TreeDir) error {
			_, err := d.Delete(t.Context(), nil, host.DeleteOptions{})
			return err
		},
	}
	for name, work := range work {
		t.Run(name, func(t *testing.T) { lockedAgain(t, work) })
	}
}

func lockedAgain(t *testing.T, work func(t *testing.T, d *host.TreeDir) error) {
	folder := filepath.Join(btrfstest.NewOther(t, "ext4", testSize).Dir, "folder")
	server := newAgentServer(t)
	proxy := sshtest.NewProxy(t, server.Addr())
	key, err := os.ReadFile(server.HostKey + ".pub")
	check(t, err)
	check(t, os.WriteFile(server.KnownHosts, []byte("it "+string(key)), 0o600))
	target := ssh.Target{User: server.User, Host: server.Host, Port: proxy.Port()}
	machine := ssh.New(target, ssh.Options{Options: append(server.Options(), "HostKeyAlias=it"), Log: silent})
	a := agent.New(machine, agent.Options{Log: silent, Version: "test", Channels: 1, Compression: wire.Auto, ResumeWindow: time.Minute})
	t.Cleanup(func() { _ = a.Close() })
	d := openTrees(t, a, folder)
	_, err = d.Lock(t.Context(), nil)
	check(t, err)
	proxy.Cut()
	err = work(t, d)
	for errors.Is(err, transport.ErrDisconnected) { // the break is noticed by it
		err = work(t, d)
	}
	check(t, err)
	if l, err := lock.Acquire(context.WithoutCancel(t.Context()), btrfstest.Open(t, folder), nil); !lock.IsHeld(err) {
		t.Errorf("the folder is not locked: %v", err)
		check(t, l.Release())
	}
}
