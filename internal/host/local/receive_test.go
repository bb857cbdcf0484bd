package local

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

func TestReceiveRefusesANameThatIsTaken(t *testing.T) {
	d := newFolder(t)
	path := d.status.Path
	btrfstest.Check(t, os.Mkdir(path+"/directory", 0o755))
	newSubvolume(t, path, "subvolume")
	btrfstest.Check(t, os.WriteFile(path+"/file", []byte("theirs"), 0o644))
	btrfstest.Check(t, os.Symlink("directory", path+"/link"))
	btrfstest.Check(t, os.Symlink("nowhere", path+"/dangling"))
	newSubvolume(t, path, btrfs.Incoming("hidden"))
	for name, kind := range map[string]string{
		"directory": "a directory", "subvolume": "another subvolume", "file": "a file", "link": "a symbolic link",
		"dangling": "a symbolic link", "hidden": "another subvolume",
	} {
		_, err := d.Receive(t.Context(), host.ReceiveOrder{Name: name})
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), kind) || hintOf(err) == "" {
			t.Errorf("receiving %s: %v, want that it is %s", name, err, kind)
		}
	}
	wantNames(t, path, ".hidden.incoming", "dangling", "directory", "file", "link", "subvolume")
	if err := d.checkFree(strings.Repeat("x", 300)); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that cannot be: %v", err)
	}
	btrfstest.Check(t, d.checkFree("free"))
}

// localStream takes a snapshot beside the folder, and gives it and its stream.
func localStream(t testing.TB, d *Dir) (btrfs.Subvolume, []byte) {
	t.Helper()
	top := filepath.Dir(d.status.Path)
	home := newSubvolume(t, top, "home")
	btrfstest.Check(t, os.WriteFile(home+"/file", bytes.Repeat([]byte("content"), 50_000), 0o644))
	snapshots := open(t, d.host, top, "snapshots")
	taken, err := snapshots.Take(t.Context(), home, info(t, home).UUID, "new")
	btrfstest.Check(t, err)
	var stream bytes.Buffer
	_, err = snapshots.Send(t.Context(), host.SendOrder{Snapshot: "new"}, &stream)
	btrfstest.Check(t, err)
	return taken, stream.Bytes()
}

func TestReceiverLeavesNothingWhenAborted(t *testing.T) {
	d := newFolder(t)
	_, stream := localStream(t, d)
	for name, end := range map[string]func(host.Receiver) error{
		"before anything was written": func(host.Receiver) error { return nil },
		"in between":                  func(r host.Receiver) error { _, err := r.Write(stream[:len(stream)/2]); return err },
		"after half a stream": func(r host.Receiver) error {
			_, err := r.Write(stream[:len(stream)/2])
			_, closeErr := r.Close(t.Context())
			if closeErr == nil {
				t.Error("half a stream is received")
			}
			return err
		},
		"after the whole stream": func(r host.Receiver) error {
			_, err := r.Write(stream)
			_, closeErr := r.Close(t.Context())
			return errors.Join(err, closeErr)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := d.Receive(t.Context(), host.ReceiveOrder{Name: "new"})
			btrfstest.Check(t, err)
			btrfstest.Check(t, end(r))
			btrfstest.Check(t, r.Abort(t.Context()))
			wantNames(t, d.status.Path)
			btrfstest.Check(t, r.Abort(t.Context())) // nothing is there any more
		})
	}
}

func TestReceiverEndsItsProgramWhenAborted(t *testing.T) {
	d := newFolder(t)
	started := filepath.Join(t.TempDir(), "started")
	fakeProgram(t, fmt.Sprintf(`echo $$ >%[1]s.new; mv %[1]s.new %[1]s; exec sleep 1000`, started))
	r, err := d.Receive(t.Context(), host.ReceiveOrder{Name: "new", Stock: true})
	btrfstest.Check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(waitFor(started)))
	btrfstest.Check(t, err)
	btrfstest.Check(t, r.Abort(t.Context()))
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func TestReceiverCommitsUnderTheFinalNameWithItsOrigin(t *testing.T) {
	d := newFolder(t)
	taken, stream := localStream(t, d)
	r, err := d.Receive(t.Context(), host.ReceiveOrder{Name: "final"})
	btrfstest.Check(t, err)
	_, err = r.Write(stream)
	btrfstest.Check(t, err)
	received, err := r.Close(t.Context())
	btrfstest.Check(t, err)
	if received.ReceivedUUID != taken.UUID || !received.ReadOnly || received.Name != btrfs.Incoming("final") {
		t.Errorf("received %+v", received)
	}
	wantNames(t, d.status.Path, ".final.incoming")
	btrfstest.Check(t, r.Commit(t.Context(), host.Origin{Subvolume: taken.ParentUUID}))
	wantNames(t, d.status.Path, tree.StateDir, "final")
	localWantOrigins(t, d, host.Origins{taken.UUID: taken.ParentUUID})
	if s, err := btrfs.InfoAt(d.dir, "final"); err != nil || s.ChangedIn > s.ReceivedIn || !s.ReadOnly {
		t.Errorf("it is not settled: %+v, error: %v", s, err)
	}
}

func TestSendLeavesOutWhatTheReceiverHas(t *testing.T) {
	d := newFolder(t)
	_, stream := localStream(t, d)
	snapshots := open(t, d.host, filepath.Dir(d.status.Path), "snapshots")
	send := func(prefix []byte) ([]byte, error) {
		c := sendstream.NewPrefixCounter(&bytes.Buffer{})
		_, err := c.Write(prefix)
		btrfstest.Check(t, err)
		var out bytes.Buffer
		_, err = snapshots.Send(t.Context(), host.SendOrder{Snapshot: "new", After: c.Prefix()}, &out)
		return out.Bytes(), err
	}
	for _, known := range []int{1, len(stream) / 2, len(stream)} {
		if rest, err := send(stream[:known]); err != nil || !bytes.Equal(rest, stream[known:]) {
			t.Errorf("after %d of %d bytes: %d sent, error: %v", known, len(stream), len(rest), err)
		}
	}
	longer := append(stream[:len(stream):len(stream)], 0)
	for name, other := range map[string][]byte{"another stream": []byte("another stream"), "a longer one": longer} {
		if rest, err := send(other); !errors.Is(err, sendstream.ErrPrefixDiffers) || len(rest) > 0 {
			t.Errorf("after %s: %d sent, error: %v", name, len(rest), err)
		}
	}
}

func TestTheValueOfAnAttributeIsNoPartOfAMessage(t *testing.T) {
	for said, want := range map[string]string{
		"lsetxattr a b user.x=\x01\x02 failed: Operation not supported":            "lsetxattr a b user.x failed: Operation not supported",
		"lsetxattr f user.x=one; two user.y=three failed: No space left on device": "lsetxattr f user.x failed: No space left on device",
		"writing to a user.x=1 failed: Input/output error":                         "writing to a user.x=1 failed: Input/output error",
	} {
		if got := attributeValue.ReplaceAllString(said, "$1$2"); got != want {
			t.Errorf("%q", got)
		}
	}
}
