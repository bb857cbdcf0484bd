package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/transport"
	"btrfs-backup/transport/wire"
)

// carry opens the sessions that carry a stream, and hands them to add. The error is that of the first one. The others, without
// which it only goes more slowly, are opened when the stream has lasted a while.
func (a *Agent) carry(ctx context.Context, name streamName, add func(io.ReadWriteCloser)) error {
	const while = 250 * time.Millisecond
	first, err := a.join(ctx, name)
	if err != nil {
		return err
	}
	add(first)
	select {
	case <-time.After(while):
	case <-ctx.Done():
		return nil
	}
	for range a.o.Channels - 1 {
		go func() {
			session, err := a.join(ctx, name)
			if err != nil {
				a.o.Log.Debug(fmt.Sprintf("%s: one session less for the stream: %v", a, err))
				return
			}
			add(session)
		}()
	}
	return nil
}

// join opens one session and waits until the holder of the stream has it.
func (a *Agent) join(ctx context.Context, name streamName) (io.ReadWriteCloser, error) {
	met, err := a.greet(ctx, name)
	if err != nil {
		return nil, err
	}
	session := met.Stream()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	var sign [1]byte
	if _, err := io.ReadFull(session, sign[:]); err != nil || sign[0] != goAhead {
		session.Close()
		return nil, disconnected{fmt.Errorf("%s: no session could join the stream: %w", a, errors.Join(err, context.Cause(ctx)))}
	}
	return session, nil
}

// Send sends over sessions of its own. When the connection breaks, it goes on where it was, unless it did not begin at the
// start: then the error is transport.ErrDisconnected.
func (d *agentDir) Send(ctx context.Context, o SendOrder, w io.Writer) (summary sendstream.Summary, err error) {
	resumable := o.After.Bytes == 0
	if resumable { // else w is another machine that has the beginning, and checks all of it
		g := newGuarded(w)
		defer func() { err = g.end(err) }()
		w = g
	}
	passed := sendstream.NewPrefixCounter(w)
	const attempts = 5 // in a row that bring nothing more
	for vain := 0; ; {
		summary, err := d.send(ctx, o, passed)
		if vain++; passed.Prefix().Bytes > o.After.Bytes {
			vain = 0
		}
		if !errors.Is(err, transport.ErrDisconnected) || !resumable || ctx.Err() != nil || vain > attempts {
			return summary, err
		}
		d.host.o.Log.Warn(fmt.Sprintf("%s: sending %s: %v; trying to reach it again", d.host, o.Snapshot, err))
		if _, err := d.host.reach(ctx); err != nil {
			return summary, err
		}
		o.After = passed.Prefix()
	}
}

// send writes to w what comes over one connection.
func (d *agentDir) send(ctx context.Context, o SendOrder, w io.Writer) (summary sendstream.Summary, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := wire.NewReceiver(wire.ReceiverOptions{Offset: o.After.Bytes, Wire: counted(o.Wire)})
	carried := func(n wire.Raw) {
		var name streamName
		err := n.Decode(&name)
		if err == nil {
			err = d.host.carry(ctx, name, in.Add)
		}
		if err != nil {
			in.Abort(err)
		}
	}
	called := make(chan error, 1)
	go func() {
		err := d.host.callOnce(ctx, verbSend, sendCall{d.name(), o, d.host.o.Compression}, &summary, func(n wire.Raw) { go carried(n) })
		if err != nil {
			in.Abort(err)
		}
		called <- err
	}()
	out := &failing{Writer: w}
	_, err = in.WriteTo(out)
	if out.err != nil {
		cancel(errNoMore)
	} else if err != nil { // the far side may know why
		const patience = 5 * time.Second
		defer time.AfterFunc(patience, func() { cancel(errNoMore) }).Stop()
	}
	callErr := <-called
	switch {
	case out.err != nil:
		return summary, &sendstream.WriteError{Err: out.err}
	case err == nil: // everything is here, whatever became of the reply
		return summary, nil
	case callErr != nil && callErr != errNoMore && !errors.Is(callErr, transport.ErrDisconnected):
		return summary, callErr // the far side knows best
	}
	return summary, disconnected{err}
}

var errNoMore = errors.New("no more is wanted")

// failing remembers the error of its writer.
type failing struct {
	io.Writer
	err error
}

func (f *failing) Write(p []byte) (n int, err error) {
	n, err = f.Writer.Write(p)
	f.err = err
	return n, err
}

func counted(count func(n int64)) func(n int) {
	if count == nil {
		return nil
	}
	return func(n int) { count(int64(n)) }
}

// agentReceiver sends a stream to the agent over sessions of its own. It is a Resumer.
type agentReceiver struct {
	dir    *agentDir
	order  ReceiveOrder
	ctx    context.Context
	reply  receiveReply
	fresh  bool         // reply says what is there now
	sender *wire.Sender // nil before Taken
	uuid   btrfs.UUID   // of what was received
	lost   atomic.Pointer[error]
}

var _ Resumer = (*agentReceiver)(nil)

func (d *agentDir) Receive(ctx context.Context, o ReceiveOrder) (Receiver, error) {
	r := &agentReceiver{dir: d, order: o, ctx: ctx, fresh: true}
	return r, d.host.callOnce(ctx, verbReceive, receiveCall{Dir: d.name(), Order: o}, &r.reply, nil)
}

// Taken connects to the receiver, again if need be, and tells what it has.
func (r *agentReceiver) Taken(ctx context.Context) (sendstream.Prefix, error) {
	if r.sender != nil {
		r.sender.Abort(errors.New("to begin anew"))
	}
	end := time.Now().Add(r.dir.host.o.ResumeWindow)
	for !r.fresh {
		err := r.again(ctx, end)
		if err == nil {
			break
		}
		if !errors.Is(err, transport.ErrDisconnected) || time.Now().After(end) {
			return sendstream.Prefix{}, err
		}
	}
	r.fresh = false
	r.lost.Store(nil)
	host := r.dir.host
	sender := wire.NewSender(wire.SenderOptions{
		Offset: r.reply.Taken.Bytes, Compression: host.o.Compression, Limit: r.order.Limit, Wire: counted(r.order.Wire),
	})
	r.sender = sender
	go func() {
		if err := host.carry(r.ctx, r.reply.Stream, sender.Add); err != nil {
			sender.Abort(err)
		}
	}()
	return r.reply.Taken, nil
}

// again takes the stream over, and then the locks: the old connection may seem to stand, and hold them.
func (r *agentReceiver) again(ctx context.Context, end time.Time) error {
	host := r.dir.host
	if _, err := host.reconnect(ctx, end); err != nil {
		return err
	}
	call := receiveCall{Dir: r.dir.name(), Order: r.order, Again: r.reply.Stream}
	if err := host.callOnce(ctx, verbReceive, call, &r.reply, nil); err != nil {
		return err
	}
	return host.relock(ctx)
}

func (r *agentReceiver) Write(p []byte) (int, error) {
	if r.sender == nil {
		if _, err := r.Taken(r.ctx); err != nil {
			return 0, err
		}
	}
	n, err := r.sender.Write(p)
	return n, r.explain(err)
}

// explain gives the error of a connection that broke, and remembers it.
func (r *agentReceiver) explain(err error) error {
	if err == nil || errors.Is(err, wire.ErrRefused) {
		return err
	}
	err = disconnected{err}
	r.lost.Store(&err)
	return err
}

// Close waits until the agent has the whole stream, or gave up.
func (r *agentReceiver) Close(ctx context.Context) (s btrfs.Subvolume, err error) {
	if lost := r.lost.Load(); lost != nil {
		return s, *lost
	}
	if r.sender != nil {
		stop := context.AfterFunc(ctx, func() { r.sender.Abort(context.Cause(ctx)) })
		defer stop()
		if err := r.sender.Close(); err != nil && !errors.Is(err, wire.ErrRefused) {
			return s, disconnected{err}
		}
	}
	err = r.dir.host.callOnce(ctx, verbClose, r.reply.Stream, &s, nil)
	r.uuid = s.UUID
	return s, err
}

func (r *agentReceiver) Commit(ctx context.Context, origin btrfs.UUID) error {
	return r.dir.host.call(ctx, verbCommit, commitCall{r.dir.name(), r.order.Name, r.uuid, origin, r.reply.Stream}, nil)
}

// Abort tells the agent to stop. One that cannot be reached stops by itself, when nobody comes back for the stream.
func (r *agentReceiver) Abort(ctx context.Context) error {
	if r.sender != nil {
		r.sender.Abort(errors.New("the transfer was given up"))
	}
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := r.dir.host.callOnce(ctx, verbAbort, abortCall{r.dir.name(), r.order.Name, r.reply.Stream}, nil, nil)
	if errors.Is(err, transport.ErrDisconnected) || errors.Is(err, transport.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) {
		r.dir.host.o.Log.Debug(fmt.Sprintf("%s: %v", r.dir.host, err))
		return nil
	}
	return err
}
