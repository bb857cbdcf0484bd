package wire

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/time/rate"
)

// ackPause is the least time between two acknowledgements of a running stream. Each costs both ends as much as the bytes of a
// small block; the pause counts as a part of the round trip, so the window grows with it.
const ackPause = 2 * time.Millisecond

// linger is how long the receiver waits for the sender to hear how it ended.
const linger = 10 * time.Second

// ReceiverOptions of a Receiver.
type ReceiverOptions struct {
	Offset int64         // in the stream, of the first byte that is wanted
	Limit  *rate.Limiter // of bytes on the wire; may be nil
	Wire   func(n int)   // told of each block read from a connection, from several goroutines; may be nil
}

// A Receiver puts together the stream of a Sender.
type Receiver struct {
	o      ReceiverOptions
	ctx    context.Context // ends when nothing more is wanted
	cancel context.CancelFunc
	told   chan struct{} // closed when the sender has been told how it ended, or cannot be

	mu      sync.Mutex
	ready   sync.Cond // for WriteTo: the next block, the end, an error
	news    sync.Cond // for acknowledge: progress, an end, a connection
	conns   []io.ReadWriteCloser
	active  io.ReadWriteCloser // which received last
	order   order
	arrived uint64
	taken   uint64
	state   uint8
	err     error // what broke the stream
	aborted bool
}

// NewReceiver makes a receiver without connections.
func NewReceiver(o ReceiverOptions) *Receiver {
	at := uint64(o.Offset)
	r := &Receiver{o: o, told: make(chan struct{}), order: order{next: at}, arrived: at, taken: at}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.ready.L, r.news.L = &r.mu, &r.mu
	return r
}

// Add takes over a connection. Connections may be added while the stream runs. Close of conn must end a Read and a Write
// that wait.
func (r *Receiver) Add(conn io.ReadWriteCloser) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || r.state != stateRunning {
		go conn.Close()
		return
	}
	r.conns = append(r.conns, conn)
	if r.active == nil {
		r.active = conn
		go r.acknowledge()
	}
	go r.receive(conn)
}

// WriteTo writes the stream to w, in order. It returns nil only after the end was received and everything written, and the
// number of bytes that w took in any case. A write that failed is returned as it is, and the sender told; that the stream
// broke, after everything before the gap was written. It can be called once.
func (r *Receiver) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		c, err := r.next()
		if err != nil {
			return total, err
		}
		if c == nil {
			r.finish(stateDone)
			return total, nil
		}
		n, err := w.Write(c.data)
		total += int64(n)
		if err == nil && n < len(c.data) {
			err = io.ErrShortWrite
		}
		if err != nil {
			r.finish(stateRefused)
			return total, err
		}
		r.take(c)
	}
}

// next waits for the chunk at the head of the stream. It returns none at the end.
func (r *Receiver) next() (*chunk, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.aborted {
			return nil, r.err
		}
		if c := r.order.pop(); c != nil {
			return c, nil
		}
		if r.order.complete() {
			return nil, nil
		}
		if r.err != nil {
			return nil, r.err
		}
		r.ready.Wait()
	}
}

func (r *Receiver) take(c *chunk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken += uint64(len(c.data))
	r.news.Signal()
	c.free()
}

// finish tells the sender how it ended. The sender then closes the connections.
func (r *Receiver) finish(state uint8) {
	r.mu.Lock()
	r.state = state
	conns, alive := r.conns, r.err == nil && len(r.conns) > 0
	r.news.Signal()
	r.mu.Unlock()
	r.cancel()
	if !alive {
		return
	}
	time.AfterFunc(linger, func() { closeAll(conns) })
	select {
	case <-r.told:
	case <-time.After(linger):
	}
}

func closeAll(conns []io.ReadWriteCloser) {
	for _, conn := range conns {
		go conn.Close()
	}
}

// Abort closes the connections. WriteTo writes no more and fails with err, unless it is done or the stream was broken.
func (r *Receiver) Abort(err error) {
	if err == nil {
		err = ErrClosed
	}
	r.fail(err, true)
}

func (r *Receiver) fail(err error, abort bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != stateRunning {
		return
	}
	r.aborted = r.aborted || abort
	r.ready.Signal()
	if r.err != nil {
		return
	}
	r.err = err
	r.cancel()
	closeAll(r.conns)
	r.news.Signal()
}

// receive reads the blocks of a connection.
func (r *Receiver) receive(conn io.ReadWriteCloser) {
	in := &inlet{Receiver: r, conn: conn}
	err := in.run()
	in.close()
	r.mu.Lock()
	over := r.state != stateRunning || r.order.complete()
	r.mu.Unlock()
	if over {
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		return
	}
	r.fail(broken(err), false)
}

// An inlet is one connection of a receiver.
type inlet struct {
	*Receiver
	conn    io.ReadWriteCloser
	decoder *zstd.Decoder
	packed  []byte
}

var errOver = errors.New("nothing more is wanted")

func (in *inlet) run() error {
	var head [blockHeader]byte
	for {
		if _, err := io.ReadFull(in.conn, head[:]); err != nil {
			return err
		}
		h, err := parseHeader(head[:])
		if err != nil {
			return err
		}
		if err := in.block(h); err != nil {
			return err
		}
	}
}

func (in *inlet) block(h header) error {
	c, err := in.claim(h)
	if err != nil || c == nil {
		return err
	}
	if h.flags&flagZstd == 0 {
		_, err = io.ReadFull(in.conn, c.data)
	} else {
		err = in.unpack(c, int(h.payload))
	}
	if err != nil {
		return err
	}
	n := blockHeader + int(h.payload)
	if in.o.Wire != nil {
		in.o.Wire(n)
	}
	if err := wait(in.ctx, in.o.Limit, n); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	c.filled = true
	in.arrived += uint64(len(c.data))
	in.active = in.conn
	in.ready.Signal()
	in.news.Signal()
	return nil
}

// claim reserves the place of a block.
func (in *inlet) claim(h header) (*chunk, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.state != stateRunning {
		return nil, errOver
	}
	if h.flags == flagEnd {
		in.active = in.conn
		in.ready.Signal()
		return nil, in.order.finish(h.offset)
	}
	return in.order.claim(h.offset, int(h.raw), in.taken)
}

func (in *inlet) close() {
	if in.decoder != nil {
		in.decoder.Close()
	}
}

func (in *inlet) unpack(c *chunk, n int) error {
	if in.decoder == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return err
		}
		in.decoder, in.packed = d, make([]byte, maxBlock)
	}
	if _, err := io.ReadFull(in.conn, in.packed[:n]); err != nil {
		return err
	}
	out, err := in.decoder.DecodeAll(in.packed[:n], c.data[:0:len(c.data)])
	if err != nil {
		return malformed("a block at %d: %v", c.offset, err)
	}
	if len(out) != len(c.data) {
		return malformed("a block at %d of %d bytes instead of %d", c.offset, len(out), len(c.data))
	}
	return nil
}

// acknowledge tells the sender of progress, on the connection that received last: that one is alive.
func (r *Receiver) acknowledge() {
	defer close(r.told)
	var b [ackLength]byte
	var last *ack
	for {
		now, conn := r.progress(last)
		if conn == nil {
			return
		}
		now.put(b[:])
		if _, err := conn.Write(b[:]); err != nil {
			select { // what the sender sent before it went may be there to read
			case <-r.ctx.Done():
			case <-time.After(lastWords):
				r.fail(broken(err), false)
			}
			return
		}
		if now.state != stateRunning {
			return
		}
		last = &now
		select {
		case <-time.After(ackPause):
		case <-r.ctx.Done():
		}
	}
}

// progress waits for more than what was last told. It returns no connection if there is nobody to tell.
func (r *Receiver) progress(last *ack) (ack, io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		now := ack{taken: r.taken, arrived: r.arrived, state: r.state}
		if r.err != nil {
			return now, nil
		}
		if last == nil || now != *last {
			return now, r.active
		}
		r.news.Wait()
	}
}
