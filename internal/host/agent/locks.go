package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// heldLock is a lock that the agent holds. It is taken again after a reconnection, since it ended with the connection.
type heldLock struct {
	dir  *dir
	conn *wire.Conn // that holds it
	id   uint64
}

func (d *dir) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	_, release, err = d.lock(ctx, waiting, false)
	return release, err
}

// LockList takes one call.
func (d *dir) LockList(ctx context.Context, waiting func(*lock.HeldError)) (found host.Content, release func() error, err error) {
	reply, release, err := d.lock(ctx, waiting, true)
	if err != nil {
		return found, nil, err
	}
	if found, err = d.host.content(d.status.Path, reply); err != nil {
		return found, nil, errors.Join(err, release())
	}
	return found, release, nil
}

func (d *dir) lock(ctx context.Context, waiting func(*lock.HeldError), list bool) (listed protocol.ListReply, release func() error, err error) {
	conn, err := d.host.reach(ctx)
	if err != nil {
		return listed, nil, err
	}
	d.host.unlocking.Lock() // until this run no longer holds what it gave up
	d.host.unlocking.Unlock()
	l := &heldLock{dir: d}
	if listed, err = l.acquire(ctx, conn, waiting, list); err != nil {
		return listed, nil, err
	}
	d.host.mu.Lock()
	d.host.locks = append(d.host.locks, l)
	d.host.mu.Unlock()
	return listed, l.release, nil
}

func (l *heldLock) acquire(ctx context.Context, conn *wire.Conn, waiting func(*lock.HeldError), list bool) (protocol.ListReply, error) {
	told := func(held lock.HeldError) {
		if waiting != nil {
			waiting(&held)
		}
	}
	call := protocol.LockCall{Dir: l.dir.name(), Wait: waiting != nil, List: list}
	reply, err := protocol.Lock.CallTold(ctx, protocol.Direct{Conn: conn}, call, told)
	if err == nil {
		l.dir.host.mu.Lock()
		l.conn, l.id = conn, reply.ID
		l.dir.host.mu.Unlock()
	}
	return reply.Listed, err
}

// release gives the lock up without waiting for the answer. If that does not come, the end of the connection gives it up.
func (l *heldLock) release() error {
	end := l.drop()
	h := l.dir.host
	h.unlocking.RLock()
	go func() {
		defer h.unlocking.RUnlock()
		_ = end()
	}()
	return nil
}

// drop no longer takes the lock again; end gives it up.
func (l *heldLock) drop() (end func() error) {
	h := l.dir.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.locks = slices.DeleteFunc(h.locks, func(other *heldLock) bool { return other == l })
	conn, id := l.conn, l.id
	return func() error {
		if conn.Err() != nil {
			return nil // it ended with the connection
		}
		_, err := protocol.Unlock.Call(context.Background(), protocol.Direct{Conn: conn}, id)
		return err
	}
}

func (h *Host) locksOn(d *dir) []*heldLock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.locks), func(l *heldLock) bool { return l.dir != d })
}

// relock takes the locks that ended with an older connection.
func (h *Host) relock(ctx context.Context) error {
	h.relocking.Lock()
	defer h.relocking.Unlock()
	h.mu.Lock()
	conn := h.conn
	locks := slices.DeleteFunc(slices.Clone(h.locks), func(l *heldLock) bool { return l.conn == conn })
	h.mu.Unlock()
	for _, l := range locks {
		waiting := func(held *lock.HeldError) {
			h.o.Log.Info(fmt.Sprintf("%s: waiting for %s", l.dir.status.Path, held.Holder()))
		}
		if _, err := l.acquire(ctx, conn, waiting, false); err != nil {
			return err
		}
	}
	return nil
}
