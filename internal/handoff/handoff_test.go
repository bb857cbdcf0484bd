package handoff

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"

	"golang.org/x/sys/unix"
)

// asUser runs do on a thread of another user, which ends with it.
func asUser(t *testing.T, uid uintptr, do func()) {
	t.Helper()
	done := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread()                                            // for good: a thread whose goroutine ends locked ends too
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid) // of this thread alone
		if errno == 0 {
			do()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Fatal(errno)
	}
}

func TestProcessesOfOtherUsersAreRefused(t *testing.T) {
	btrfstest.RequireRoot(t)
	const nobody = 65534
	told := func(c *Conn, _ wire.Raw) { _ = errors.Join(c.Send("told"), c.Close()) }
	ours, err := Listen()
	btrfstest.Check(t, err)
	defer ours.Close()
	go ours.Serve(told)
	asUser(t, nobody, func() {
		raw, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: ours.Address, Net: "unixpacket"})
		if err != nil {
			t.Error(err)
			return
		}
		c := &Conn{socket: raw}
		defer c.Close()
		_ = c.Send("ask")
		var answer string
		if err := c.Receive(&answer); err == nil {
			t.Errorf("another user is told %q", answer)
		}
	})
	var squatter *Listener
	asUser(t, nobody, func() { squatter, err = Listen() })
	btrfstest.Check(t, err)
	defer squatter.Close()
	go squatter.Serve(told)
	var answer string
	if _, err := Ask(squatter.Address, "secret", &answer); !errors.Is(err, ErrNobody) || !strings.Contains(err.Error(), "user 65534") {
		t.Errorf("asking another user: %v", err)
	}
	if IsTaken(squatter.Address) {
		t.Error("another user's address is taken for one of ours")
	}
}

func TestStreamsAreHandedOverUntilTheyAreClosed(t *testing.T) {
	l, err := Listen()
	btrfstest.Check(t, err)
	defer l.Close()
	go l.Serve(func(c *Conn, first wire.Raw) {
		session, err := c.Session()
		if err != nil {
			_ = errors.Join(c.Send(err.Error()), c.Close())
			return
		}
		var text string
		_ = errors.Join(first.Decode(&text), c.Send(""))
		_, _ = session.Write([]byte(text))
		_ = session.Close()
	})
	var failure string
	c, err := Ask(l.Address, "nothing", &failure)
	btrfstest.Check(t, err)
	btrfstest.Check(t, c.Close())
	if failure == "" {
		t.Error("a session without files")
	}
	in, err := os.Open(os.DevNull)
	btrfstest.Check(t, err)
	defer in.Close()
	r, w, err := os.Pipe()
	btrfstest.Check(t, err)
	defer r.Close()
	c, err = Ask(l.Address, "text", &failure, in, w)
	btrfstest.Check(t, err)
	defer c.Close()
	w.Close()
	c.Wait()
	text := make([]byte, 10)
	if n, err := r.Read(text); err != nil || string(text[:n]) != "text" {
		t.Errorf("%q, %v", text[:n], err)
	}
	if _, err := r.Read(text); err == nil {
		t.Error("the stream goes on")
	}
	btrfstest.Check(t, l.Close())
	if _, err := Ask(l.Address, "text", &failure); !errors.Is(err, ErrNobody) {
		t.Errorf("error: %v", err)
	}
}
