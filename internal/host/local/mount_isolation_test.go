package local

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/host"
	"btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// eachMount runs a test on folders that are seen through all kinds of mounts.
func eachMount(t *testing.T, test func(t *testing.T, folder string)) {
	filesystem := btrfstest.New(t, size)
	top := filesystem.Dir
	disk := newSubvolume(t, top, "disk")
	plain := filepath.Join(disk, "plain")
	btrfstest.Check(t, os.MkdirAll(plain+"/folder", 0o755))
	mounted := filepath.Join(t.TempDir(), "mounted")
	filesystem.Mount(t, mounted, "subvol=disk")
	boundPlain, boundDisk := localBind(t, plain), localBind(t, disk)
	linked := filepath.Join(t.TempDir(), "linked")
	btrfstest.Check(t, os.Symlink(plain, linked))
	for name, folder := range map[string]string{
		"top level": top, "below the top level": plain, "mount of a subvolume": mounted, "below the mount of a subvolume": mounted + "/plain",
		"a subvolume bound": boundDisk + "/plain/folder", "a plain directory bound": boundPlain,
		"below a plain directory bound": boundPlain + "/folder", "through a link": linked,
	} {
		t.Run(name, func(t *testing.T) { test(t, folder) })
	}
}

func TestTheReceiverSeesTheFolderThroughAMountThatFollowsNoLinksAndOpensNoDevices(t *testing.T) {
	eachMount(t, func(t *testing.T, folder string) {
		d := open(t, newHost(), folder)
		btrfstest.Check(t, os.Symlink("/etc/hostname", filepath.Join(folder, "link")))
		btrfstest.Check(t, unix.Mknod(filepath.Join(folder, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		defer os.Remove(filepath.Join(folder, "link"))
		defer os.Remove(filepath.Join(folder, "zero"))
		var path string
		p, whole, err := d.startIsolated(func(at string) (*transport.Process, error) {
			path = at
			const script = `test -L "$1/link" && ! head -c1 "$1/link" 2>/dev/null && ! head -c1 "$1/zero" 2>/dev/null && : >"$1/made"`
			return d.host.run(false).Start(t.Context(), transport.Command{Argv: []string{"sh", "-c", script, "sh", at}, Here: true})
		})
		btrfstest.Check(t, err)
		if err := p.Wait(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if err := os.Remove(filepath.Join(folder, "made")); err != nil {
			t.Errorf("%s is another directory: %v", path, err)
		}
		if !whole {
			t.Error("it does not see the whole filesystem")
		}
	})
}

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

func TestThisProcessStaysInItsMountNamespace(t *testing.T) {
	d := newFolder(t)
	before, err := os.Readlink("/proc/self/ns/mnt")
	btrfstest.Check(t, err)
	inside := make(map[string]bool)
	for range 20 {
		p, _, err := d.startIsolated(func(string) (*transport.Process, error) {
			in, err := os.Readlink("/proc/thread-self/ns/mnt")
			btrfstest.Check(t, err)
			inside[in] = true
			return d.host.run(false).Start(t.Context(), transport.Command{Argv: []string{"true"}, Here: true})
		})
		btrfstest.Check(t, err)
		btrfstest.Check(t, p.Wait())
	}
	after, err := os.Readlink("/proc/self/ns/mnt")
	btrfstest.Check(t, err)
	if before != after || inside[before] {
		t.Errorf("%s before, %s after, %v inside", before, after, inside)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	btrfstest.Check(t, err)
	if strings.Contains(string(mounts), "nosymfollow") {
		t.Error("a mount is left")
	}
}

func TestNothingIsReceivedIntoADirectoryInTheFoldersPlace(t *testing.T) {
	d := newFolder(t)
	btrfstest.Check(t, os.Rename(d.status.Path, d.status.Path+"-moved"))
	btrfstest.Check(t, os.Mkdir(d.status.Path, 0o755))
	if _, err := d.isolateOnce(); err == nil || !strings.Contains(err.Error(), "another directory") {
		t.Errorf("error: %v", err)
	}
	if _, err := d.Receive(t.Context(), host.ReceiveOrder{Name: "x"}); err == nil || !strings.Contains(err.Error(), "another directory") {
		t.Errorf("error: %v", err)
	}
}

func TestAConfinedAgentThatCannotIsolateReceivesNothing(t *testing.T) {
	d := newFolder(t)
	btrfstest.Check(t, os.Chmod(filepath.Dir(filepath.Dir(d.status.Path)), 0o755))
	for _, c := range []Confinement{nil, anywhere{}} {
		d.host.confine = c
		asUser(t, 65534, func() {
			p, _, err := d.startReceive(t.Context(), false, nil)
			if err == nil {
				_ = p.Wait() // an empty stream
			}
			if (err == nil) != (c == nil) || err != nil && !strings.Contains(hintOf(err), "as root") {
				t.Errorf("confined %t: %v", c != nil, err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(d.status.Path, btrfs.Incoming("x"))); err == nil {
		t.Error("something was received")
	}
}

// anywhere is a Confinement to everything.
type anywhere struct{ Confinement }

func asUser(t *testing.T, uid uintptr, do func()) {
	t.Helper()
	done := make(chan syscall.Errno)
	onThread(func() {
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid) // of this thread alone
		if errno == 0 {
			do()
		}
		done <- errno
	})
	if errno := <-done; errno != 0 {
		t.Fatal(errno)
	}
}

// isolateOnce tells what isolate gives, on a thread of its own.
func (d *Dir) isolateOnce() (path string, err error) {
	done := make(chan struct{})
	onThread(func() {
		path, _, err = d.isolate()
		close(done)
	})
	<-done
	return path, err
}

func BenchmarkIsolation(b *testing.B) {
	btrfstest.RequireRoot(b)
	d := open(b, newHost(), btrfstest.New(b, size).Dir)
	run := func(path string) (*transport.Process, error) {
		return d.host.run(false).Start(b.Context(), transport.Command{Argv: []string{"true", path}, Here: true})
	}
	b.Run("with", func(b *testing.B) {
		for b.Loop() {
			p, _, err := d.startIsolated(run)
			btrfstest.Check(b, err)
			btrfstest.Check(b, p.Wait())
		}
	})
	b.Run("without", func(b *testing.B) {
		for b.Loop() {
			p, err := run(d.status.Path)
			btrfstest.Check(b, err)
			btrfstest.Check(b, p.Wait())
		}
	})
}
