package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// A transfer is a backup that is being received. When its connection breaks, it is parked: it waits for its sender for a while.
// It belongs to the process that began it; later sessions reach it by its address.
type transfer struct {
	dir      *local.Dir // its own
	order    host.ReceiveOrder
	window   time.Duration
	log      *slog.Logger
	listener *handoff.Listener
	unnotice func() // others no longer find it
	receiver *local.Receiver
	in       *sendstream.PrefixCounter // what the far side sent
	gone     func()                    // called once, at the end
	once     sync.Once

	mu      sync.Mutex
	secret  string
	stream  *wire.Receiver // nil while nobody sends
	parked  bool           // whoever sent is gone
	carried chan struct{}  // closed when stream ended
	taken   chan struct{}  // closed when the whole stream was taken, or the receiver ended
	err     error          // then: why it ended

	closing  sync.Once
	aborting sync.Once
	abortErr error
	received btrfs.Subvolume // and closeErr: what came of it
	closeErr error

	timer *time.Timer // ends the waiting

	process context.Context // it waits no longer than that lasts
	unwatch func() bool
}

// beginTransfer begins to receive. The context is that of the process.
func (s *server) beginTransfer(dir *local.Dir, o host.ReceiveOrder) (*transfer, error) {
	listener, err := handoff.Listen()
	if err != nil {
		return nil, err
	}
	unnotice, err := s.announce(dir, o.Name, listener.Address)
	if err != nil {
		listener.Close()
		return nil, err
	}
	receiver, err := dir.StartReceive(s.ctx, o, s.begins(dir))
	if err != nil {
		unnotice()
		listener.Close()
		return nil, err
	}
	t := &transfer{dir: dir, order: o, window: s.o.ResumeWindow, log: s.o.Log, listener: listener, unnotice: unnotice, receiver: receiver,
		in: sendstream.NewPrefixCounter(receiver), taken: make(chan struct{}), gone: func() {}, process: s.ctx}
	t.unwatch = context.AfterFunc(s.ctx, t.hurry)
	go listener.Serve(holder(t.answer).serve)
	return t, nil
}

// attach begins a connection, in place of the one there may be.
func (t *transfer) attach() (protocol.StreamName, sendstream.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil // should it be over already
	}
	if t.stream != nil {
		t.stream.Abort(errors.New("the sender connected anew"))
		<-t.carried
	}
	prefix := t.in.Prefix()
	t.secret, t.parked = handoff.NewSecret(), false
	stream, carried := wire.NewReceiver(wire.ReceiverOptions{Offset: prefix.Bytes}), make(chan struct{})
	t.stream, t.carried = stream, carried
	go func() {
		_, err := stream.WriteTo(t.in)
		close(carried)
		t.carriedTo(stream, err)
	}()
	return protocol.StreamName{Address: t.listener.Address, Secret: t.secret}, prefix
}

// carriedTo notes how a connection ended.
func (t *transfer) carriedTo(stream *wire.Receiver, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stream != stream {
		return // another one has taken its place
	}
	t.stream = nil
	lost := errors.Is(err, wire.ErrBroken) || errors.Is(err, errDetached)
	window := t.window
	if t.process.Err() != nil || lost && t.in.Prefix().Bytes == 0 { // there is nothing to go on with
		window = 0
	}
	t.timer = time.AfterFunc(window, t.expire)
	if lost {
		t.parked = true
		t.log.Info(fmt.Sprintf("%s: the connection was lost; waiting for the sender", t.order.Name))
		return
	}
	select {
	case <-t.taken:
	default:
		t.err = err
		close(t.taken)
	}
}

// hurry ends the waiting with the process, whose receiver has ended.
func (t *transfer) hurry() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stream == nil && t.timer != nil {
		t.timer.Reset(0)
	}
}

func (t *transfer) expire() {
	t.mu.Lock()
	ended := t.timer == nil
	t.mu.Unlock()
	if ended {
		return
	}
	t.log.Info(fmt.Sprintf("%s: no run resumed its transfer in time", t.order.Name))
	_ = t.abort() // nobody is left to be told
}

// close waits until the whole stream was taken, or the receiver ended, and tells what came of it, every time the same.
func (t *transfer) close(ctx context.Context) (btrfs.Subvolume, error) {
	select {
	case <-t.taken:
	case <-ctx.Done():
		return btrfs.Subvolume{}, context.Cause(ctx)
	}
	t.closing.Do(func() { t.received, t.closeErr = t.finish() })
	return t.received, t.closeErr
}

func (t *transfer) finish() (btrfs.Subvolume, error) {
	received, err := t.receiver.Close(context.Background())
	if t.err != nil && (err == nil || errors.Is(err, sendstream.ErrTruncated) || errors.Is(err, sendstream.ErrEmpty)) {
		err = t.err // which is why the stream broke off
	}
	return received, err
}

// abort ends receiving and removes what was received, once.
func (t *transfer) abort() error {
	t.aborting.Do(func() { t.abortErr = t.remove() })
	return t.abortErr
}

func (t *transfer) remove() error {
	t.mu.Lock()
	stream := t.stream
	t.mu.Unlock()
	if stream != nil {
		stream.Abort(errors.New("the receiver was told to stop"))
	}
	err := t.receiver.Abort(context.Background())
	t.end()
	return err
}

// end makes it an ordinary leftover, or nothing.
func (t *transfer) end() {
	t.once.Do(func() {
		t.mu.Lock()
		if t.timer != nil {
			t.timer.Stop()
			t.timer = nil // nothing hurries it any more
		}
		t.mu.Unlock()
		t.unwatch()
		t.unnotice()
		t.listener.Close()
		t.dir.Close()
		t.gone()
	})
}

// answer answers another process.
func (t *transfer) answer(r request, c *handoff.Conn) (a answer, then func(), err error) {
	t.mu.Lock()
	secret, live := t.secret, !t.parked
	t.mu.Unlock()
	knows := secret != "" && handoff.SameSecret(r.Secret, secret)
	switch {
	case r.Op == opResume && r.Key != t.order.Key:
		return a, nil, errOtherStream
	case r.Op == opResume && (knows || !live):
		var s protocol.StreamName
		s, a.Taken = t.attach()
		a.Secret = s.Secret
		return a, func() { t.lend(s, c) }, nil
	case r.Op == opAbort && (knows || !live):
		return a, nil, t.abort()
	case !knows:
		return a, nil, errors.New("the stream is in use by another session")
	case r.Op == opJoin:
		then, err := joins(c, t.add)
		return a, then, err
	case r.Op == opClose:
		a.Subvolume, err = t.close(context.Background())
		return a, nil, err
	case r.Op == opDone:
		t.end()
		return a, nil, nil
	}
	return a, nil, fmt.Errorf("%q is not understood", r.Op)
}

func (t *transfer) add(session io.ReadWriteCloser) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stream == nil {
		session.Close()
		return
	}
	t.stream.Add(session)
}

// lend lets another process have the stream as long as its connection stands.
func (t *transfer) lend(s protocol.StreamName, c *handoff.Conn) {
	defer c.Close()
	c.Wait()
	t.detach(s)
}

// detach ends the connection of that name, if it stands.
func (t *transfer) detach(s protocol.StreamName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.secret != s.Secret {
		return
	}
	if t.parked = true; t.stream != nil {
		t.stream.Abort(errDetached)
	}
}

var errDetached = errors.New("the session ended")

var errOtherStream = errors.New("another stream waits for its sender under this name")

// clear removes what is left of a stream of this run whose process was killed, unless another run has the lock by now.
func (s *server) clear(d *local.Dir, c protocol.ReceiveCall) error {
	switch {
	case c.Again == (protocol.StreamName{}):
		return nil
	case s.hasLocked(d):
		return d.Discard(c.Order.Name)
	}
	release, err := d.Lock(s.ctx, nil)
	if err != nil {
		return err
	}
	return errors.Join(d.Discard(c.Order.Name), release())
}

func (s *server) hasLocked(d *local.Dir) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.locks {
		if l.at == d.Status().DirID {
			return true
		}
	}
	return false
}
