package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/transport"
	"btrfs-backup/transport/wire"
)

// kept is a backup that is being received, and stays so for a while when the connection breaks. It belongs to the process
// that began it; later sessions reach it through its rendezvous.
type kept struct {
	dir      *localDir // its own
	order    ReceiveOrder
	window   time.Duration
	meeting  *rendezvous
	receiver *localReceiver
	in       *sendstream.PrefixCounter // what the far side sent, in front of the check
	pipe     *io.PipeWriter            // behind it
	checked  chan error                // how checking and writing ended
	gone     func()                    // called once, at the end
	once     sync.Once

	mu      sync.Mutex
	secret  string
	stream  *wire.Receiver // nil while nobody is connected
	carried chan struct{}  // closed when stream ended
	taken   chan struct{}  // closed when the whole stream was taken, or the receiver ended
	err     error          // then: why it ended

	closing  sync.Once
	received btrfs.Subvolume // and closeErr: what came of it
	closeErr error

	timer *time.Timer // ends the waiting

	process context.Context // it waits no longer than that lasts
	unwatch func() bool
}

// keep begins to receive. The context is that of the process.
func keep(ctx context.Context, dir *localDir, o ReceiveOrder, allow func(sendstream.Command) error, window time.Duration) (*kept, error) {
	meeting, err := meet(keptAddress(dir.status.Place, o.Name))
	if err != nil {
		return nil, fmt.Errorf("%s is being received by another process: %w", filepath.Join(dir.status.Path, o.Name), err)
	}
	receiver, err := dir.receive(ctx, o)
	if err != nil {
		meeting.Close()
		return nil, err
	}
	r, w := io.Pipe()
	k := &kept{dir: dir, order: o, window: window, meeting: meeting, receiver: receiver, in: sendstream.NewPrefixCounter(w), pipe: w,
		checked: make(chan error, 1), taken: make(chan struct{}), gone: func() {}, process: ctx}
	k.unwatch = context.AfterFunc(ctx, k.hurry)
	go func() {
		_, err := sendstream.CopyAllowed(receiver, r, allow)
		r.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
		k.checked <- err
	}()
	go meeting.serve(k.answer)
	return k, nil
}

// attach begins a connection, in place of the one there may be.
func (k *kept) attach() (streamName, sendstream.Prefix) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
	}
	if k.stream != nil {
		k.stream.Abort(errors.New("the sender connected anew"))
		<-k.carried
	}
	prefix := k.in.Prefix()
	k.secret = newSecret()
	stream, carried := wire.NewReceiver(wire.ReceiverOptions{Offset: prefix.Bytes}), make(chan struct{})
	k.stream, k.carried = stream, carried
	go func() {
		_, err := stream.WriteTo(k.in)
		close(carried)
		k.carriedTo(stream, err)
	}()
	return streamName{k.meeting.address, k.secret}, prefix
}

// carriedTo notes how a connection ended.
func (k *kept) carriedTo(stream *wire.Receiver, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream != stream {
		return // another one has taken its place
	}
	k.stream = nil
	window := k.window
	if k.process.Err() != nil {
		window = 0
	}
	k.timer = time.AfterFunc(window, k.expire)
	if errors.Is(err, wire.ErrBroken) || errors.Is(err, errDetached) {
		k.dir.host.log.Info(fmt.Sprintf("%s: the connection was lost; waiting for it", k.order.Name))
		return
	}
	select {
	case <-k.taken:
	default:
		k.err = err
		close(k.taken)
	}
}

// hurry ends the waiting with the process, whose receiver has ended.
func (k *kept) hurry() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream == nil && k.timer != nil {
		k.timer.Reset(0)
	}
}

func (k *kept) expire() {
	k.dir.host.log.Info(fmt.Sprintf("%s: nobody came to go on with it", k.order.Name))
	_ = k.abort() // nobody is left to be told
}

// close waits until the whole stream was taken, or the receiver ended, and tells what came of it, every time the same.
func (k *kept) close(ctx context.Context) (btrfs.Subvolume, error) {
	select {
	case <-k.taken:
	case <-ctx.Done():
		return btrfs.Subvolume{}, context.Cause(ctx)
	}
	k.closing.Do(func() { k.received, k.closeErr = k.finish() })
	return k.received, k.closeErr
}

func (k *kept) finish() (btrfs.Subvolume, error) {
	k.pipe.Close()
	checkErr := <-k.checked
	if checkErr == nil && k.err == nil {
		return k.receiver.Close(context.Background())
	}
	// when the program gave up, the check only saw a broken pipe
	err := k.receiver.end()
	var exit *transport.ExitError
	var write *sendstream.WriteError
	if errors.As(err, &exit) && errors.As(checkErr, &write) {
		return btrfs.Subvolume{}, err
	}
	return btrfs.Subvolume{}, cmp.Or(checkErr, k.err)
}

// abort ends receiving and removes what was received.
func (k *kept) abort() error {
	k.mu.Lock()
	stream := k.stream
	k.mu.Unlock()
	if stream != nil {
		stream.Abort(errors.New("the receiver was told to stop"))
	}
	k.pipe.CloseWithError(errors.New("receiving was stopped"))
	err := k.receiver.Abort(context.Background())
	k.end()
	return err
}

// end makes it an ordinary leftover, or nothing.
func (k *kept) end() {
	k.once.Do(func() {
		k.mu.Lock()
		if k.timer != nil {
			k.timer.Stop()
			k.timer = nil // nothing hurries it any more
		}
		k.mu.Unlock()
		k.unwatch()
		k.meeting.Close()
		k.dir.Close()
		k.gone()
	})
}

// answer answers another process.
func (k *kept) answer(v visitor) (a response, then func(), err error) {
	k.mu.Lock()
	secret, live := k.secret, k.stream != nil
	k.mu.Unlock()
	knows := secret != "" && sameSecret(v.Secret, secret)
	switch {
	case v.Op == opTake && v.Key != k.order.Key:
		return a, nil, errOtherStream
	case v.Op == opTake && (knows || !live):
		var s streamName
		s, a.Taken = k.attach()
		a.Secret = s.Secret
		return a, func() { k.lease(s, v.conn) }, nil
	case v.Op == opAbort && (knows || !live):
		return a, nil, k.abort()
	case !knows:
		return a, nil, errors.New("the stream is in use by another session")
	case v.Op == opJoin:
		then, err := v.joins(k.add)
		return a, then, err
	case v.Op == opClose:
		a.Subvolume, err = k.close(context.Background())
		return a, nil, err
	case v.Op == opDone:
		k.end()
		return a, nil, nil
	}
	return a, nil, fmt.Errorf("%q is not understood", v.Op)
}

func (k *kept) add(session io.ReadWriteCloser) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream == nil {
		session.Close()
		return
	}
	k.stream.Add(session)
}

// lease lets another process have the stream as long as its connection stands.
func (k *kept) lease(s streamName, c *net.UnixConn) {
	defer c.Close()
	_, _ = c.Read(make([]byte, 1)) // nothing comes but the end
	k.detach(s)
}

// detach ends the connection of that name, if it stands.
func (k *kept) detach(s streamName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream != nil && k.secret == s.Secret {
		k.stream.Abort(errDetached)
	}
}

var errDetached = errors.New("the session ended")

var errOtherStream = errors.New("another stream is kept under this name")

// clear removes what is left of a stream of this run whose keeper was killed, unless another run has the lock by now.
func (s *server) clear(d *localDir, c receiveCall) error {
	switch {
	case c.Again == (streamName{}):
		return nil
	case s.hasLocked(d):
		return d.discard(c.Order.Name)
	}
	release, err := d.Lock(s.ctx, nil)
	if err != nil {
		return err
	}
	return errors.Join(d.discard(c.Order.Name), release())
}

func (s *server) hasLocked(d *localDir) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.locks {
		if l.at == d.status.Place {
			return true
		}
	}
	return false
}

// isKept tells whether a process waits for the rest of an unfinished backup.
func (d *localDir) isKept(name string) bool {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: keptAddress(d.status.Place, name), Net: "unixpacket"})
	if err != nil {
		return false
	}
	defer c.Close()
	return checkPeer(c) == nil
}

// withoutKept leaves out the unfinished backups that are kept for their senders to resume.
func (d *localDir) withoutKept(listing btrfs.Listing) btrfs.Listing {
	listing.InDirectory = slices.DeleteFunc(listing.InDirectory, func(s btrfs.Subvolume) bool {
		name, incoming := btrfs.IncomingOf(s.Name)
		return incoming && d.isKept(name)
	})
	return listing
}
