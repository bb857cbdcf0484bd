package serve

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

// fetch asks for a snapshot and gives the stream that came.
func (c *client) fetch(dir protocol.Dir, snapshot string) ([]byte, error) {
	in := wire.NewReceiver(wire.ReceiverOptions{})
	var b bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = in.WriteTo(&b) // what came counts
	}()
	call := protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: snapshot, Format: sendstream.Format{Protocol: 1}}}
	err := c.conn.Call(c.t.Context(), protocol.Send.Name, call, nil, func(n wire.Raw) {
		var name protocol.StreamName
		if n.Decode(&name) == nil {
			go func() {
				if session, err := c.join(name); err == nil {
					in.Add(session)
				}
			}()
		}
	})
	if err != nil {
		in.Abort(io.ErrUnexpectedEOF)
	}
	<-done
	return b.Bytes(), err
}

// TestNoLinkThatComesMeanwhileLeadsOutOfTheRoot is about a user of the machine who owns a folder in the root.
func TestNoLinkThatComesMeanwhileLeadsOutOfTheRoot(t *testing.T) {
	s := newScene(t)
	name := "20260101-000000"
	private := newSubvolume(t, s.top+"/outside", "private")
	btrfstest.Check(t, os.WriteFile(private+"/file", []byte("TOPSECRET"), 0o600))
	btrfstest.Check(t, btrfs.Snapshot(btrfstest.Open(t, private), btrfstest.Open(t, s.top+"/outside"), name))
	own, trap := s.root+"/own", s.root+"/trap"
	btrfstest.Check(t, os.Mkdir(own, 0o755))
	btrfstest.Check(t, btrfs.Snapshot(btrfstest.Open(t, newSubvolume(t, s.root, "mine")), btrfstest.Open(t, own), name))
	btrfstest.Check(t, os.Symlink(s.top+"/outside", trap))
	var over atomic.Bool
	swapped := make(chan struct{})
	go func() {
		defer close(swapped)
		for !over.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, own, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE)
			time.Sleep(3 * time.Millisecond) // long enough for a directory to be opened
		}
	}()
	stop := func() {
		over.Store(true)
		<-swapped
	}
	defer stop()
	c := connect(t, Options{Limits: Limits{Root: s.root, SendOnly: true}})
	for range 200 {
		var st host.Status
		if c.call(protocol.Open.Name, protocol.Dir{Path: own}, &st) != nil {
			continue
		}
		dir := protocol.Dir{Path: st.Path, DirID: st.DirID}
		if stream, err := c.fetch(dir, name); bytes.Contains(stream, []byte("TOPSECRET")) {
			t.Fatalf("a snapshot from outside was sent, %v", err)
		}
		_ = c.call(protocol.Measure.Name, protocol.SendCall{Dir: dir, Order: host.SendOrder{Snapshot: name}}, nil)
	}
	stop()
	if _, err := os.Readlink(own); err == nil {
		btrfstest.Check(t, os.Remove(own))
		btrfstest.Check(t, os.Rename(trap, own))
	}
	if stream, err := c.fetch(protocol.Dir{Path: own}, name); err != nil || len(stream) == 0 {
		t.Errorf("what was asked for does not come: %d bytes, %v", len(stream), err)
	}
}
