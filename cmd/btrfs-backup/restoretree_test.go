package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

func TestACopyComesBackAsATreeWhereThereAreNoSubvolumes(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("dir/a", "content")
	btrfstest.Check(t, os.Chmod(r.source, 0o711))
	btrfstest.Run(t, "setfattr", "-n", "user.root", "-v", "x", r.source)
	backup := r.saves()
	other := btrfstest.NewOther(t, "ext4", 64<<20)
	restore := func(args ...string) result {
		return invokeCmd(t, r.commandTo(nil, append([]string{"restore", backup}, args...)...))
	}
	missing := filepath.Join(other.Dir, "missing")
	dry := expect(t, exitDone, restore(missing, "--dry-run"))
	if exists(missing) || !strings.Contains(dry.stdout, "would write "+missing) {
		t.Error(dry.stdout)
	}
	is := func(target string) {
		t.Helper()
		btrfstest.Equal(t, r.source, target)
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(target), ".*")); len(left) > 0 {
			t.Errorf("there is %q", left)
		}
	}
	expect(t, exitDone, restore(missing))
	is(missing)
	empty := makeDir(t, filepath.Join(other.Dir, "empty"))
	expect(t, exitDone, restore(empty))
	is(empty)
	disk := makeDir(t, filepath.Join(other.Dir, "disk")) // which cannot be renamed
	btrfstest.Run(t, "mount", "-t", "tmpfs", "none", disk)
	t.Cleanup(func() { btrfstest.Run(t, "umount", disk) })
	expect(t, exitDone, restore(disk))
	is(disk)
	sub := filepath.Join(smallFS(t).Dir, "sub")
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", sub)
	expect(t, exitDone, restore(sub))
	is(sub)
	far := newRemote(t, sshtest.Options{})
	expect(t, exitDone, restore(append(far.options, far.place(filepath.Join(other.Dir, "far")))...))
	is(filepath.Join(other.Dir, "far"))

	expect(t, exitFailed, restore(missing), "is there already, and not empty", "--path . --to "+missing)
	expect(t, exitFailed, restore(filepath.Join(other.Dir, "no/way")), "mkdir -p")
	expect(t, exitFailed, restore("--in-place", missing), "for subvolumes", "--path . --to "+missing+" --overwrite")
	if exists(filepath.Join(other.Dir, "no")) {
		t.Error("a refused restore made something")
	}
}

func TestACopyOnBtrfsComesBackAsASubvolumeOrAsATree(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	r.write("file", "content")
	r.write("dir/a", "")
	expect(t, exitDone, r.withShim(fmt.Sprintf("sync -f %q", r.destination))) // it takes longer than a transaction
	backup := r.newest()
	restore := func(args ...string) result {
		return invokeCmd(t, r.commandTo(nil, append([]string{"restore", backup}, args...)...))
	}
	there := filepath.Join(btrfstest.NewOther(t, "ext4", 64<<20).Dir, "there")
	expect(t, exitDone, restore(there))
	btrfstest.Equal(t, r.source, there)

	home := filepath.Join(smallFS(t).Dir, "home")
	expect(t, exitDone, restore(home), "no more by rsync", "btrfs-backup "+home+" "+r.destination)
	isRestored(t, home, backup)
	next := expect(t, exitDone, invokeCmd(t, r.commandTo(nil, home, r.destination)))
	if !strings.Contains(next.stderr, "saved: increment to "+filepath.Base(backup)) {
		t.Error(next.stderr)
	}
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, "--engine", "rsync", home, r.destination)), "saved: increment to "+filepath.Base(backup))
	expect(t, exitFailed, restore("--in-place", makeDir(t, filepath.Join(filepath.Dir(home), "dir"))), "only a subvolume can give its place up",
		"--path . --to "+filepath.Join(filepath.Dir(home), "dir")+" --overwrite")
	r.write("dir/b", "")
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, "restore", "--in-place", r.saves(), home)))
	btrfstest.Equal(t, filepath.Join(r.source, "dir"), filepath.Join(home, "dir"))
}

func TestNothingBuildsOnACopyThatSomebodyAlteredAfterItsRestore(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	r.write("file", "content")
	backup := r.saves()
	home := filepath.Join(smallFS(t).Dir, "home")
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, "restore", backup, home)))
	btrfstest.Run(t, "btrfs", "property", "set", "-ts", backup, "ro", "false")
	write(t, filepath.Join(backup, "file"), "altered")
	btrfstest.Run(t, "btrfs", "property", "set", "-ts", backup, "ro", "true")
	btrfstest.Run(t, "sync", "-f", backup)
	next := expect(t, exitDone, invokeCmd(t, r.commandTo(nil, home, r.destination)))
	if strings.Contains(next.stderr, "saved: increment") {
		t.Error(next.stderr)
	}
	isRestored(t, home, r.newest())
}

func TestCopiesThatTookLongAreSentOnByIncrements(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "btrfs")
	far := filepath.Join(smallFS(t).Dir, "far")
	var made []string
	for content := range 3 {
		r.write("file", fmt.Sprint("content ", content))
		expect(t, exitDone, r.withShim(fmt.Sprintf("sync -f %q", r.destination)))
		made = append(made, filepath.Base(r.newest()))
		sent := expect(t, exitDone, invokeCmd(t, r.commandTo(nil, "--relay", r.destination, far)))
		if content > 0 && !strings.Contains(sent.stderr, "saved: increment to "+made[content-1]) {
			t.Error(sent.stderr)
		}
	}
	for _, name := range made {
		btrfstest.Equal(t, filepath.Join(r.destination, name), filepath.Join(far, name))
	}
	home := filepath.Join(smallFS(t).Dir, "home")
	expect(t, exitDone, invokeCmd(t, r.commandTo(nil, "restore", filepath.Join(far, made[2]), home)))
	for _, destination := range []string{far, r.destination} { // both have what came back
		next := expect(t, exitDone, invokeCmd(t, r.commandTo(nil, home, destination)))
		if !strings.Contains(next.stderr, "saved: increment to "+made[2]) {
			t.Error(next.stderr)
		}
	}
}
