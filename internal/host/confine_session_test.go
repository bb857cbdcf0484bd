package host

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

func TestALiveTransferIsItsSessionsOwn(t *testing.T) {
	s := newClientScene(t)
	first, second := connect(t, s.limits()), connect(t, s.limits())
	dir, name := dirName{Path: s.folder}, "20260505-000000"
	btrfstest.Check(t, os.WriteFile(s.top+"/home/big", make([]byte, 16<<20), 0o600)) // more than waits to be sent
	s.snapshot(name)
	stream := s.stream(name, mine)
	r, sender, err := first.push(dir, name, stream[:len(stream)/2])
	btrfstest.Check(t, err)
	hidden := filepath.Join(s.folder, btrfs.Incoming(name))
	for _, err := os.Stat(hidden); err != nil; _, err = os.Stat(hidden) {
		time.Sleep(10 * time.Millisecond)
	}
	guessed := streamName{r.Stream.Address, newSecret()}
	for call, args := range map[string]any{
		verbReceive:            receiveCall{Dir: dir, Order: ReceiveOrder{Name: name, Key: "key"}},
		verbReceive + " other": receiveCall{Dir: dir, Order: ReceiveOrder{Name: name, Key: "other"}},
		verbReceive + " again": receiveCall{Dir: dir, Order: ReceiveOrder{Name: name, Key: "key"}, Again: guessed},
		verbAbort:              abortCall{Dir: dir, Name: name, Stream: guessed},
		verbAbort + " unnamed": abortCall{Dir: dir, Name: name},
		verbDelete:             deleteCall{Dir: dir, Names: []string{btrfs.Incoming(name)}},
		verbCommit:             commitCall{Dir: dir, Name: name, UUID: localInfo(t, hidden).UUID},
		verbClose:              guessed,
	} {
		if err := second.ask(call, args); err == nil {
			t.Errorf("%s of another session's transfer is allowed", call)
		}
	}
	for _, name := range []streamName{guessed, {r.Stream.Address, ""}, {"@/tmp/.X11-unix/X0", r.Stream.Secret}, {"/run/udev/control", "x"}} {
		if session, err := second.join(name); err == nil {
			session.Close()
			t.Errorf("%v is joined", name)
		}
	}
	_, err = sender.Write(stream[len(stream)/2:])
	btrfstest.Check(t, err)
	btrfstest.Check(t, sender.Close())
	var sub btrfs.Subvolume
	btrfstest.Check(t, first.call(verbClose, r.Stream, &sub))
	btrfstest.Check(t, first.call(verbCommit, commitCall{Dir: dir, Name: name, UUID: sub.UUID, Stream: r.Stream}, nil))
	btrfstest.Equal(t, s.source.status.Path+"/"+name, s.folder+"/"+name)
}

func TestNoOtherProgramsSocketIsJoined(t *testing.T) {
	address := filepath.Join(t.TempDir(), "socket")
	met, err := meet(address)
	btrfstest.Check(t, err)
	defer met.Close()
	asked := make(chan struct{}, 1)
	go met.serve(func(visitor) (response, func(), error) {
		asked <- struct{}{}
		return response{}, nil, errNobody
	})
	c := &client{t: t, o: ServeOptions{Log: localHost().log}}
	if _, err := c.join(streamName{Address: address}); err == nil {
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

func TestProcessesOfOtherUsersAreRefused(t *testing.T) {
	btrfstest.RequireRoot(t)
	const nobody = 65534
	asked := func(visitor) (response, func(), error) { return response{Secret: "told"}, nil, nil }
	ours, err := meet(newAddress())
	btrfstest.Check(t, err)
	defer ours.Close()
	go ours.serve(asked)
	asUser(t, nobody, func() {
		raw, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: ours.address, Net: "unixpacket"})
		if err != nil {
			t.Error(err)
			return
		}
		defer raw.Close()
		_ = sendMessage(raw, demand{Op: opTake}, nil)
		var a response
		if _, err := receiveMessage(raw, &a); err == nil {
			t.Errorf("another user is told %+v", a)
		}
	})
	var squatter *rendezvous
	asUser(t, nobody, func() { squatter, err = meet(newAddress()) })
	btrfstest.Check(t, err)
	defer squatter.Close()
	go squatter.serve(asked)
	if _, _, err := ask(squatter.address, demand{Op: opTake, Secret: "secret"}); err == nil || !strings.Contains(err.Error(), "user 65534") {
		t.Errorf("asking another user: %v", err)
	}
}
