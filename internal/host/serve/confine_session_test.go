package serve

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func TestALiveTransferIsItsSessionsOwn(t *testing.T) {
	s := newClientScene(t)
	first, second := connect(t, s.limits()), connect(t, s.limits())
	dir, name := protocol.Dir{Path: s.folder}, "20260505-000000"
	btrfstest.Check(t, os.WriteFile(s.top+"/home/big", make([]byte, 16<<20), 0o600)) // more than waits to be sent
	s.snapshot(name)
	stream := s.stream(name, mine)
	r, sender, err := first.push(dir, name, stream[:len(stream)/2])
	btrfstest.Check(t, err)
	hidden := filepath.Join(s.folder, btrfs.Incoming(name))
	for _, err := os.Stat(hidden); err != nil; _, err = os.Stat(hidden) {
		time.Sleep(10 * time.Millisecond)
	}
	guessed := protocol.StreamName{Address: r.Stream.Address, Secret: handoff.NewSecret()}
	for call, args := range map[string]any{
		protocol.Receive.Name:            protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: name, Key: "key"}},
		protocol.Receive.Name + " other": protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: name, Key: "other"}},
		protocol.Receive.Name + " again": protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: name, Key: "key"}, Again: guessed},
		protocol.Abort.Name:              protocol.AbortCall{Dir: dir, Name: name, Stream: guessed},
		protocol.Abort.Name + " unnamed": protocol.AbortCall{Dir: dir, Name: name},
		protocol.Delete.Name:             protocol.DeleteCall{Dir: dir, Names: []string{btrfs.Incoming(name)}},
		protocol.Commit.Name:             protocol.CommitCall{Dir: dir, Name: name, UUID: info(t, hidden).UUID},
		protocol.Close.Name:              guessed,
	} {
		if err := second.ask(call, args); err == nil {
			t.Errorf("%s of another session's transfer is allowed", call)
		}
	}
	for _, name := range []protocol.StreamName{guessed, {Address: r.Stream.Address}, {Address: "@/tmp/.X11-unix/X0", Secret: r.Stream.Secret}, {Address: "/run/udev/control", Secret: "x"}} {
		if session, err := second.join(name); err == nil {
			session.Close()
			t.Errorf("%v is joined", name)
		}
	}
	_, err = sender.Write(stream[len(stream)/2:])
	btrfstest.Check(t, err)
	btrfstest.Check(t, sender.Close())
	var sub btrfs.Subvolume
	btrfstest.Check(t, first.call(protocol.Close.Name, r.Stream, &sub))
	btrfstest.Check(t, first.call(protocol.Commit.Name, protocol.CommitCall{Dir: dir, Name: name, UUID: sub.UUID, Stream: r.Stream}, nil))
	btrfstest.Equal(t, s.source.Status().Path+"/"+name, s.folder+"/"+name)
}

func TestNoOtherProgramsSocketIsJoined(t *testing.T) {
	address := filepath.Join(t.TempDir(), "socket")
	socket, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: address, Net: "unixpacket"})
	btrfstest.Check(t, err)
	defer socket.Close()
	asked := make(chan struct{}, 1)
	go func() {
		if c, err := socket.Accept(); err == nil {
			asked <- struct{}{}
			c.Close()
		}
	}()
	c := &client{t: t, o: Options{Log: slog.New(slog.DiscardHandler)}}
	if _, err := c.join(protocol.StreamName{Address: address}); err == nil {
		t.Error("it is joined")
	}
	select {
	case <-asked:
		t.Error("it was asked")
	default:
	}
}

func TestAResumedTransferHasTheLimitsWithWhichItBegan(t *testing.T) {
	if a, b := (Limits{Root: "/a"}).scope("k"), (Limits{Root: "/b"}).scope("k"); a == b || a == (Limits{Root: "/a", AppendOnly: true}).scope("k") {
		t.Errorf("%q, %q", a, b)
	}
}

func TestAParkedTransferMakesWayForAnotherStreamOfItsName(t *testing.T) {
	s := newClientScene(t)
	o := s.limits()
	o.ResumeWindow = 2 * time.Minute
	first, second := connect(t, o), connect(t, o)
	dir, name := protocol.Dir{Path: s.folder}, "20260506-000000"
	s.snapshot(name)
	stream := s.stream(name, mine)
	_, _, err := first.push(dir, name, stream[:len(stream)/2])
	btrfstest.Check(t, err)
	btrfstest.Check(t, first.conn.Close())
	call := protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: name, Key: "other"}}
	var reply protocol.ReceiveReply
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err = second.call(protocol.Receive.Name, call, &reply); err == nil || time.Now().After(end) {
			break // until the first session has ended
		}
	}
	if err != nil || reply.Taken.Bytes != 0 {
		t.Errorf("%d bytes are taken, %v", reply.Taken.Bytes, err)
	}
	btrfstest.Check(t, second.call(protocol.Abort.Name, protocol.AbortCall{Dir: dir, Name: name, Stream: reply.Stream}, nil))
	s.mustServe(second)
}
