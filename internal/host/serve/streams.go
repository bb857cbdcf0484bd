package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// send sends a stream over sessions that are to join it.
func (s *server) send(ctx context.Context, c protocol.SendCall, tell func(protocol.StreamName)) (summary sendstream.Summary, err error) {
	d, err := s.open(c.Dir)
	if err != nil {
		return summary, err
	}
	defer d.Close()
	listener, err := handoff.Listen()
	if err != nil {
		return summary, err
	}
	defer listener.Close()
	name := protocol.StreamName{Address: listener.Address, Secret: handoff.NewSecret()}
	sender := wire.NewSender(wire.SenderOptions{Offset: c.Order.After.Bytes, Compression: c.Compression})
	stop := context.AfterFunc(ctx, func() { sender.Abort(context.Cause(ctx)) })
	defer stop()
	go listener.Serve(joining(name.Secret, sender.Add).serve)
	tell(name)
	summary, err = d.Send(ctx, c.Order, sender)
	if err == nil {
		err = sender.Close()
	} else {
		sender.Abort(err)
	}
	if errors.Is(err, wire.ErrBroken) {
		err = protocol.Disconnected(err)
	}
	return summary, err
}

func (s *server) measure(ctx context.Context, d *local.Dir, c protocol.SendCall) (int64, error) {
	return d.Measure(ctx, c.Order)
}

// receive begins to receive a stream over sessions that are to join it, or goes on with one that was interrupted.
func (s *server) receive(_ context.Context, c protocol.ReceiveCall) (reply protocol.ReceiveReply, err error) {
	if err := s.o.Limits.checkName(c.Order.Name); err != nil {
		return reply, err
	}
	if c.Order.Stock && s.o.Limits != (Limits{}) {
		return reply, hint.New(errors.New("refused: the program btrfs receive goes where a stream leads it, so a key with limits may not use it"),
			"leave out --receiver stock")
	}
	d, err := s.open(c.Dir)
	if err != nil {
		return reply, err
	}
	if s.confine != nil {
		if err := s.confine.mustBeOurs(d); err != nil {
			d.Close()
			return reply, err
		}
		reply.Warning = s.warning(d)
	}
	c.Order.Key = s.o.Limits.scope(c.Order.Key)
	address := d.ParkedAddress(c.Order.Name)
	a, other, err := ask(address, request{Op: opResume, Key: c.Order.Key, Secret: c.Again.Secret})
	switch {
	case err == nil:
		d.Close()
		name := protocol.StreamName{Address: address, Secret: a.Secret}
		s.remember(&stream{other: other, name: name})
		reply.Stream, reply.Taken = name, a.Taken
		return reply, nil
	case errors.Is(err, handoff.ErrNobody):
		if err := s.clear(d, c); err != nil {
			d.Close()
			return reply, err
		}
	case errors.Is(err, errOtherStream):
		_ = tell(address, request{Op: opAbort}) // if it fails, so does what follows
	default:
		d.Close()
		return reply, err
	}
	t, err := s.beginTransfer(d, c.Order)
	if err != nil {
		d.Close()
		return reply, err
	}
	s.transfers.Add(1)
	t.gone = s.transfers.Done
	name, taken := t.attach()
	s.remember(&stream{own: t, name: name})
	reply.Stream, reply.Taken = name, taken
	return reply, nil
}

func (s *server) remember(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st.name.Secret] = st
}

func (s *server) find(name protocol.StreamName) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[name.Secret]
}

func (s *server) forget(st *stream) {
	if st.other != nil {
		st.other.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.name.Secret)
}

func (s *server) closeStream(ctx context.Context, name protocol.StreamName) (received btrfs.Subvolume, err error) {
	st := s.find(name)
	if st == nil {
		return received, handoff.ErrNobody
	}
	if st.own != nil {
		return st.own.close(ctx)
	}
	asked := make(chan error, 1)
	var a answer
	go func() {
		there, c, err := ask(st.name.Address, request{Op: opClose, Secret: name.Secret})
		if err == nil {
			c.Close()
		}
		a = there
		asked <- err
	}()
	select {
	case err := <-asked:
		return a.Subvolume, err
	case <-ctx.Done(): // a stream that broke has no end yet
		return received, context.Cause(ctx)
	}
}

// done ends the transfer of a backup that has got its name.
func (s *server) done(name protocol.StreamName) {
	st := s.find(name)
	switch {
	case st == nil:
		return
	case st.own != nil:
		st.own.end()
	default:
		_ = tell(name.Address, request{Op: opDone, Secret: name.Secret}) // nothing waits there any more
	}
	s.forget(st)
}

// commit may be told twice, when the first reply was lost.
func (s *server) commit(ctx context.Context, d *local.Dir, c protocol.CommitCall) (none protocol.Nothing, err error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return none, err
	}
	c.Origin.Untrusted = s.o.Limits != (Limits{})
	if info, err := d.Subvolume(c.Name); err == nil && info.UUID == c.UUID {
		if s.o.Limits != (Limits{}) && time.Since(info.ReceivedAt) > cmp.Or(s.o.AgainTime, againTime) {
			// what is not on record is never pruned, and would be if it became this client's
			return none, fmt.Errorf("refused: %s was there before", filepath.Join(d.Status().Path, c.Name))
		}
		if err := d.FinishCommit(info, c.Name, c.Origin); err != nil {
			return none, err
		}
	} else {
		if err := d.MustBeReceived(c.Name, c.UUID); err != nil {
			return none, err
		}
		if err := d.Commit(c.Name, c.Origin); err != nil {
			return none, err
		}
	}
	s.done(c.Stream)
	if s.o.Received == nil {
		return none, nil
	}
	return none, s.o.Received(ctx, d, c.Name)
}

func (s *server) abort(_ context.Context, d *local.Dir, c protocol.AbortCall) (none protocol.Nothing, err error) {
	if err := s.o.Limits.checkName(c.Name); err != nil {
		return none, err
	}
	st := s.find(c.Stream)
	switch {
	case st == nil && d.IsParked(c.Name):
		return none, fmt.Errorf("%s is being received by another session", filepath.Join(d.Status().Path, c.Name))
	case st == nil:
		return none, d.Discard(c.Name)
	case st.own != nil:
		s.forget(st)
		return none, st.own.abort()
	}
	err = tell(st.name.Address, request{Op: opAbort, Secret: c.Stream.Secret})
	s.forget(st)
	if errors.Is(err, handoff.ErrNobody) {
		return none, d.Discard(c.Name)
	}
	return none, err
}
