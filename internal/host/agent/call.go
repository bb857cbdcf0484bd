package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// Call makes a call, with the locks that ended with an earlier connection taken again before. One that may be repeated is made
// again when the connection broke.
func (h *Host) Call(ctx context.Context, verb protocol.About, args, reply any, notice func(wire.Raw)) error {
	err := h.callOnce(ctx, verb, args, reply, notice)
	if verb.Repeatable && errors.Is(err, transport.ErrDisconnected) && ctx.Err() == nil {
		h.o.Log.Debug(fmt.Sprintf("%s: %v; once more", h, err))
		err = h.callOnce(ctx, verb, args, reply, notice)
	}
	if err != nil && err.Error() == protocol.UnknownVerb(verb.Name) {
		return hint.New(fmt.Errorf("%s: the btrfs-backup there is too old for this call", h), "install the same version on both machines")
	}
	return err
}

func (h *Host) callOnce(ctx context.Context, verb protocol.About, args, reply any, notice func(wire.Raw)) error {
	conn, err := h.reach(ctx)
	if err != nil {
		return err
	}
	return protocol.Direct{Conn: conn}.Call(ctx, verb, args, reply, notice)
}

// reach gives the connection, and takes the locks again that were lost with an old one. A machine that was reached before is
// waited for.
func (h *Host) reach(ctx context.Context) (*wire.Conn, error) {
	h.mu.Lock()
	first := h.conn == nil
	h.mu.Unlock()
	end := time.Now()
	if !first {
		end = h.deadline()
	}
	conn, err := h.reconnect(ctx, end)
	if err != nil {
		return nil, err
	}
	return conn, h.relock(ctx)
}

// deadline tells until when a machine that was lost is waited for.
func (h *Host) deadline() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost.IsZero() {
		h.lost = time.Now()
	}
	return h.lost.Add(h.o.ResumeWindow)
}

// reconnect tries until the given time.
func (h *Host) reconnect(ctx context.Context, end time.Time) (*wire.Conn, error) {
	const longest = 30 * time.Second
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, longest) {
		conn, err := h.connect(ctx)
		again := errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrDisconnected)
		if err == nil {
			h.mu.Lock()
			h.lost = time.Time{}
			h.mu.Unlock()
		}
		if !again || time.Now().Add(pause).After(end) {
			return conn, err
		}
		h.o.Log.Debug(fmt.Sprintf("%v; next attempt in %s", err, pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
