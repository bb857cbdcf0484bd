package agent

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/host/protocol"
	"btrfs-backup/transport/ssh"
	"btrfs-backup/transport/wire"
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
