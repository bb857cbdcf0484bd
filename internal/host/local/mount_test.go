package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// localBind mounts a directory at another place until the end of the test.
func localBind(t testing.TB, dir string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "bound to\tsomewhere")
	btrfstest.Check(t, os.Mkdir(at, 0o755))
	btrfstest.Run(t, "mount", "--bind", dir, at)
	t.Cleanup(func() { btrfstest.Unmount(t, at) })
	return at
}

// localReceive receives a stream in the folder, under a name.
func localReceive(t testing.TB, d *Dir, name string, stream []byte) btrfs.Subvolume {
	t.Helper()
	r, err := d.Receive(t.Context(), host.ReceiveOrder{Name: name})
	btrfstest.Check(t, err)
	_, writeErr := r.Write(stream)
	received, err := r.Close(t.Context())
	btrfstest.Check(t, err)
	btrfstest.Check(t, writeErr)
	btrfstest.Check(t, r.Commit(t.Context(), host.Origin{Subvolume: received.ReceivedUUID}))
	return received
}

func TestIncrementsArriveThroughEveryMount(t *testing.T) {
	mounted := func(t testing.TB, filesystem *btrfstest.FS, _ string) string {
		at := filepath.Join(t.TempDir(), "mounted")
		filesystem.Mount(t, at, "subvol=disk")
		return at + "/plain"
	}
	for name, mount := range map[string]func(t testing.TB, filesystem *btrfstest.FS, disk string) (folder string){
		"top level":               func(_ testing.TB, f *btrfstest.FS, _ string) string { return f.Dir },
		"below the top level":     func(_ testing.TB, _ *btrfstest.FS, disk string) string { return disk + "/plain" },
		"mount of a subvolume":    mounted,
		"a subvolume bound":       func(t testing.TB, _ *btrfstest.FS, disk string) string { return localBind(t, disk) + "/plain/folder" },
		"a plain directory bound": func(t testing.TB, _ *btrfstest.FS, disk string) string { return localBind(t, disk+"/plain") },
		"below a plain directory bound": func(t testing.TB, _ *btrfstest.FS, disk string) string {
			return localBind(t, disk+"/plain") + "/folder"
		},
	} {
		t.Run(name, func(t *testing.T) {
			filesystem := btrfstest.New(t, size)
			disk := newSubvolume(t, filesystem.Dir, "disk")
			btrfstest.Check(t, os.MkdirAll(disk+"/plain/folder", 0o755))
			d := open(t, newHost(), mount(t, filesystem, disk))
			localReceiveTwo(t, filesystem.Dir, d)
		})
	}
}

// localReceiveTwo sends a snapshot and an increment to it, and compares what arrives.
func localReceiveTwo(t testing.TB, top string, d *Dir) {
	t.Helper()
	home, snapshots := newSubvolume(t, top, "home"), open(t, d.host, top, "snapshots")
	parent := ""
	for _, name := range []string{"first", "second"} {
		btrfstest.Check(t, os.WriteFile(filepath.Join(home, name), []byte("content"), 0o644))
		_, err := snapshots.Take(t.Context(), home, info(t, home).UUID, name)
		btrfstest.Check(t, err)
		var stream bytes.Buffer
		_, err = snapshots.Send(t.Context(), host.SendOrder{Snapshot: name, Parent: parent}, &stream)
		btrfstest.Check(t, err)
		if received := localReceive(t, d, name, stream.Bytes()); received.ParentUUID.IsZero() != (parent == "") {
			t.Errorf("%s has the parent %s", name, received.ParentUUID)
		}
		parent = name
	}
	btrfstest.Equal(t, filepath.Join(snapshots.status.Path, "second"), filepath.Join(d.status.Path, "second"), btrfstest.RootTime)
}

func TestAListTellsWhatIsMounted(t *testing.T) {
	d := newFolder(t)
	for _, name := range []string{"mounted", "in mounted", "free"} {
		newSubvolume(t, d.status.Path, name)
	}
	btrfstest.Check(t, os.Mkdir(filepath.Join(d.status.Path, "in mounted", "inner"), 0o755))
	localBind(t, filepath.Join(d.status.Path, "mounted"))
	localBind(t, filepath.Join(d.status.Path, "in mounted", "inner"))
	found, err := d.List(t.Context())
	btrfstest.Check(t, err)
	if got := fmt.Sprint(found.InUse()); got != "map[in mounted:mounted mounted:mounted]" {
		t.Error(got)
	}
}
