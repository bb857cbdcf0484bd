package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// carry lets sessions carry a stream, and hands them to add. The error is that of the first one. The others, without which it only
// goes more slowly, are opened when the stream has lasted a while and was not written to its end before.
func (h *Host) carry(ctx context.Context, first *opening, name protocol.StreamName, written <-chan struct{}, add func(io.ReadWriteCloser)) error {
	const while = 250 * time.Millisecond
	session, err := h.join(ctx, first, name)
	if err != nil {
		return err
	}
	add(session)
	select {
	case <-time.After(while):
	case <-written:
		return nil
	case <-ctx.Done():
		return nil
	}
	for range h.o.Channels - 1 {
		go func() {
			session, err := h.join(ctx, h.ahead(ctx), name)
			if err != nil {
				h.o.Log.Debug(fmt.Sprintf("%s: one session less for the stream: %v", h, err))
				return
			}
			add(session)
		}()
	}
	return nil
}

// join lets a session join a stream, and waits until the holder of the stream has it.
func (h *Host) join(ctx context.Context, o *opening, name protocol.StreamName) (io.ReadWriteCloser, error) {
	met, err := h.greet(ctx, o, name)
	if err != nil {
		return nil, err
	}
	session := met.Stream()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	var sign [1]byte
	if _, err := io.ReadFull(session, sign[:]); err != nil || sign[0] != protocol.GoAhead {
		session.Close()
		return nil, protocol.Disconnected(fmt.Errorf("%s: no session could join the stream: %w", h, errors.Join(err, context.Cause(ctx))))
	}
	return session, nil
}

// Send sends over sessions of its own. When the connection breaks, it goes on where it was, unless it did not begin at the start:
// then the error is transport.ErrDisconnected.
func (d *dir) Send(ctx context.Context, o host.SendOrder, w io.Writer) (summary sendstream.Summary, err error) {
	resumable := o.After.Bytes == 0
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
		d.host.o.Log.Warn(fmt.Sprintf("%s: sending %s: %v; connecting again", d.host, o.Snapshot, err))
		if _, err := d.host.reach(ctx); err != nil {
			return summary, err
		}
		o.After = passed.Prefix()
	}
}

// send writes to w what comes over one connection.
func (d *dir) send(ctx context.Context, o host.SendOrder, w io.Writer) (summary sendstream.Summary, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := wire.NewReceiver(wire.ReceiverOptions{Offset: o.After.Bytes, Wire: counted(o.Wire)})
	carried := func(name protocol.StreamName) {
		if err := d.host.carry(ctx, d.host.ahead(ctx), name, nil, in.Add); err != nil {
			in.Abort(err)
		}
	}
	called := make(chan error, 1)
	go func() {
		call := protocol.SendCall{Dir: d.name(), Order: o, Compression: d.host.o.Compression}
		var err error
		summary, err = protocol.Send.CallTold(ctx, d.host, call, func(name protocol.StreamName) { go carried(name) })
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
	return summary, protocol.Disconnected(err)
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

// receiver sends a stream to the agent over sessions of its own. It is a Resumer.
type receiver struct {
	dir    *dir
	order  host.ReceiveOrder
	ctx    context.Context
	reply  protocol.ReceiveReply
	fresh  bool         // reply says what is there now
	first  *opening     // that is to carry the stream; nil if it is taken
	sender *wire.Sender // nil before Taken
	// written is closed when nothing more is written to the sender.
	written chan struct{}
	uuid    btrfs.UUID // of what was received
	lost    atomic.Pointer[error]
}

var _ host.Resumer = (*receiver)(nil)

// Copies tells that no snapshot is on that machine.
func (d *dir) Copies(host.Snapshots) bool { return false }

func (d *dir) Receive(ctx context.Context, o host.ReceiveOrder) (host.Receiver, error) {
	first := d.host.ahead(ctx)
	reply, err := protocol.Receive.Call(ctx, d.host, protocol.ReceiveCall{Dir: d.name(), Order: o})
	if err != nil {
		first.drop()
	}
	if reply.Warning != "" {
		d.host.o.Log.Warn(fmt.Sprintf("%s: %s", d.host, reply.Warning))
	}
	return &receiver{dir: d, order: o, ctx: ctx, reply: reply, fresh: true, first: first}, err
}

// Taken connects to the receiver, again if need be, and tells what it has.
func (r *receiver) Taken(ctx context.Context) (sendstream.Prefix, error) {
	if r.sender != nil {
		r.sender.Abort(errors.New("to begin anew"))
	}
	end := r.dir.host.deadline()
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
	h := r.dir.host
	sender := wire.NewSender(wire.SenderOptions{
		Offset: r.reply.Taken.Bytes, Compression: h.o.Compression, Limit: r.order.Limit, Wire: counted(r.order.Wire), Taken: r.order.Taken,
	})
	r.sender = sender
	first, written := r.first, make(chan struct{})
	if r.first, r.written = nil, written; first == nil {
		first = h.ahead(r.ctx)
	}
	go func() {
		if err := h.carry(r.ctx, first, r.reply.Stream, written, sender.Add); err != nil {
			sender.Abort(err)
		}
	}()
	return r.reply.Taken, nil
}

// again takes the stream over, and then the locks: the old connection may seem to stand, and hold them.
func (r *receiver) again(ctx context.Context, end time.Time) error {
	h := r.dir.host
	conn, err := h.reconnect(ctx, end)
	if err != nil {
		return err
	}
	call := protocol.ReceiveCall{Dir: r.dir.name(), Order: r.order, Again: r.reply.Stream}
	reply, err := protocol.Receive.Call(ctx, protocol.Direct{Conn: conn}, call)
	if err != nil {
		return err
	}
	r.reply = reply
	return h.relock(ctx)
}

func (r *receiver) Write(p []byte) (int, error) {
	if r.sender == nil {
		if _, err := r.Taken(r.ctx); err != nil {
			return 0, err
		}
	}
	n, err := r.sender.Write(p)
	return n, r.explain(err)
}

// explain gives the error of a connection that broke, and remembers it.
func (r *receiver) explain(err error) error {
	if err == nil || errors.Is(err, wire.ErrRefused) {
		return err
	}
	err = protocol.Disconnected(err)
	r.lost.Store(&err)
	return err
}

// Close waits until the agent has the whole stream, or gave up. The agent is asked what came of it while the end is on its way.
func (r *receiver) Close(ctx context.Context) (s btrfs.Subvolume, err error) {
	if lost := r.lost.Load(); lost != nil {
		return s, *lost
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var sending sync.WaitGroup
	if r.sender != nil {
		close(r.written)
		defer context.AfterFunc(ctx, func() { r.sender.Abort(context.Cause(ctx)) })()
		sending.Go(func() {
			if err := r.sender.Close(); err != nil && !errors.Is(err, wire.ErrRefused) {
				cancel(protocol.Disconnected(err))
			}
		})
	}
	s, err = protocol.Close.Call(ctx, r.dir.host, r.reply.Stream)
	if err != nil {
		cancel(err)
	}
	sending.Wait()
	cancel(nil)
	r.uuid = s.UUID
	return s, err
}

func (r *receiver) Commit(ctx context.Context, of host.Origin) error {
	_, err := protocol.Commit.Call(ctx, r.dir.host, protocol.CommitCall{Dir: r.dir.name(), Name: r.order.Name, UUID: r.uuid, Origin: of, Stream: r.reply.Stream})
	return err
}

// Abort tells the agent to stop. One that cannot be reached stops by itself, when nobody comes back for the stream.
func (r *receiver) Abort(ctx context.Context) error {
	if r.sender != nil {
		r.sender.Abort(errors.New("the transfer was given up"))
	} else if r.first != nil {
		r.first.drop()
	}
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := protocol.Abort.Call(ctx, r.dir.host, protocol.AbortCall{Dir: r.dir.name(), Name: r.order.Name, Stream: r.reply.Stream})
	if errors.Is(err, transport.ErrDisconnected) || errors.Is(err, transport.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) {
		r.dir.host.o.Log.Debug(fmt.Sprintf("%s: %v", r.dir.host, err))
		return nil
	}
	return err
}
