package serve

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

func (s *server) format(ctx context.Context, _ protocol.Nothing) (sendstream.Format, error) {
	return s.local.StockFormat(ctx)
}

func (s *server) mkdir(ctx context.Context, path string) (none protocol.Nothing, err error) {
	return none, s.local.MkdirAll(ctx, path)
}

func (s *server) rmdir(ctx context.Context, d *local.Dir, c protocol.RmdirCall) (none protocol.Nothing, err error) {
	return none, d.Rmdir(ctx, c.Remove)
}

func (s *server) status(_ context.Context, d *local.Dir, _ protocol.Dir) (host.Status, error) {
	return s.statusOf(d), nil
}

// statusOf also tells what the client's limits refuse, before he makes a folder for it.
func (s *server) statusOf(d *local.Dir) host.Status {
	status := d.Status()
	if err := s.o.Limits.allow(protocol.Destination); err != nil {
		status.NoReceive = err.Error()
	}
	return status
}

func (s *server) nested(ctx context.Context, d *local.Dir, _ protocol.Dir) ([]host.Nested, error) {
	return d.Nested(ctx)
}

func (s *server) changed(ctx context.Context, d *local.Dir, c protocol.ChangedCall) (bool, error) {
	return d.Changed(ctx, c.Since, c.Except)
}

func (s *server) writeLedger(ctx context.Context, d *local.Dir, c protocol.LedgerCall) (none protocol.Nothing, err error) {
	return none, d.WriteLedger(ctx, c.Content)
}

func (s *server) take(ctx context.Context, d *local.Dir, c protocol.TakeCall) (btrfs.Subvolume, error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return btrfs.Subvolume{}, err
	}
	return d.Take(ctx, c.Source, c.UUID, c.Name)
}

func (s *server) link(ctx context.Context, d *local.Dir, c protocol.LinkCall) (none protocol.Nothing, err error) {
	if err := s.o.Limits.checkLink(c.Name, c.Target); err != nil {
		return none, err
	}
	return none, d.Link(ctx, c.Name, c.Target)
}

func (s *server) list(ctx context.Context, d *local.Dir, _ protocol.Dir) (reply protocol.ListReply, err error) {
	content, err := d.List(ctx)
	if err != nil {
		return reply, err
	}
	return s.listReply(d, content), nil
}

// listReply packs what a directory holds.
func (s *server) listReply(d *local.Dir, content host.Content) protocol.ListReply {
	content.Keeps = s.o.Keeps
	reply := protocol.ListReply{Status: s.statusOf(d), Content: content, Listing: protocol.Pack(content.Listing)}
	reply.Content.Listing = btrfs.Listing{}
	return reply
}

func (s *server) lock(ctx context.Context, c protocol.LockCall, tell func(lock.HeldError)) (reply protocol.LockReply, err error) {
	d, err := s.open(c.Dir)
	if err != nil {
		return reply, err
	}
	var waiting func(*lock.HeldError)
	if c.Wait {
		waiting = func(held *lock.HeldError) { tell(*held) }
	}
	release, err := d.Lock(ctx, waiting)
	if err == nil && c.List {
		reply.Listed, err = s.list(ctx, d, c.Dir)
	}
	if err != nil {
		d.Close() // which gives the lock up
		return reply, err
	}
	reply.ID = s.holdLock(heldLock{d.Status().DirID, func() {
		_ = release() // closing gives it up anyway
		d.Close()
	}})
	return reply, nil
}

// holdLock keeps a lock until it is given up. That of a client with limits, who may be there to keep others out, ends by itself;
// the transfers that it protects have notices of their own.
func (s *server) holdLock(l heldLock) (id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastLock++
	id = s.lastLock
	if s.o.Limits != (Limits{}) {
		timer, release := time.AfterFunc(cmp.Or(s.o.LockTime, lockTime), func() { s.dropLock(id) }), l.release
		l.release = func() {
			timer.Stop()
			release()
		}
	}
	s.locks[id] = l
	return id
}

func (s *server) dropLock(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.locks[id]; ok {
		l.release()
		delete(s.locks, id)
	}
}

func (s *server) unlock(_ context.Context, id uint64) (none protocol.Nothing, err error) {
	s.dropLock(id)
	return none, nil
}

func (s *server) delete(ctx context.Context, d *local.Dir, c protocol.DeleteCall) (protocol.DeleteReply, error) {
	allowed, refusal := s.o.Limits.deletable(d, c.Names, c.Options)
	deleted, err := d.Delete(ctx, allowed, c.Options)
	return protocol.NewDeleteReply(deleted, errors.Join(err, refusal)), nil
}
