package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// connectTo connects to an agent that answers with handle.
func connectTo(t *testing.T, handle wire.Handler) *wire.Conn {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		if met, err := wire.Accept(t.Context(), far, wire.Hello{}, wire.Options{}); err == nil {
			_ = met.Conn().Serve(t.Context(), handle) // until the test is over
		}
	}()
	met, err := wire.Dial(t.Context(), near, wire.Hello{}, wire.Options{})
	btrfstest.Check(t, err)
	conn := met.Conn()
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestAnAgentOfAnEarlierVersionIsTold(t *testing.T) {
	conn := connectTo(t, func(_ context.Context, verb string, _ wire.Raw, _ func(any)) (any, error) {
		return nil, errors.New(protocol.UnknownVerb(verb))
	})
	h := &Host{machine: ssh.New(ssh.Target{Host: "nas"}, ssh.Options{}), conn: conn}
	err := h.Call(t.Context(), protocol.About{Name: "frob"}, protocol.Nothing{}, nil, nil)
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || hinted.Hint() != "install the same version on both machines" || !strings.Contains(err.Error(), "ssh://nas") {
		t.Errorf("%v", err)
	}
}

func TestALockThatWasGivenUpIsNotInTheWayOfTheNext(t *testing.T) {
	var held atomic.Bool
	conn := connectTo(t, func(_ context.Context, verb string, _ wire.Raw, _ func(any)) (any, error) {
		switch verb {
		case protocol.Lock.Name:
			if held.Swap(true) {
				return nil, errors.New("in use")
			}
			return protocol.LockReply{ID: 1}, nil
		case protocol.Unlock.Name:
			time.Sleep(50 * time.Millisecond)
			held.Store(false)
		}
		return protocol.Nothing{}, nil
	})
	d := &dir{host: &Host{machine: ssh.New(ssh.Target{Host: "nas"}, ssh.Options{}), conn: conn}}
	release, err := d.Lock(t.Context(), nil)
	btrfstest.Check(t, err)
	btrfstest.Check(t, release())
	_, err = d.Lock(t.Context(), nil)
	btrfstest.Check(t, err)
	btrfstest.Check(t, d.Close())
	if held.Load() {
		t.Error("closed, it is still locked")
	}
}

func TestAMachineThatWasNeverReachedIsNotWaitedFor(t *testing.T) {
	target := ssh.Target{Host: "127.0.0.1", Port: sshtest.Port(t)} // where nobody listens
	h := New(ssh.New(target, ssh.Options{}), Options{Log: slog.New(slog.DiscardHandler), ResumeWindow: 24 * time.Hour})
	defer h.Close()
	if _, err := h.Open(t.Context(), "/"); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("error: %v", err)
	}
	if _, err := h.OpenTrees(t.Context(), "/", tree.OpenOptions{}); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("error: %v", err)
	}
}
