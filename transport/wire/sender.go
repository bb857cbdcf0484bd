package wire

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// SenderOptions of a Sender.
type SenderOptions struct {
	Offset      int64 // in the stream, of the first byte that will be written
	Compression Compression
	Limit       *rate.Limiter // of bytes on the wire; may be nil
	Wire        func(n int)   // told of each write to a connection, from several goroutines; may be nil
	Taken       func(n int64) // told how much more the far side's writer has taken; may be nil, and must not wait
}

// A Sender carries one stream over any number of connections to a Receiver. What is written is cut into blocks, which take
// whichever connection is free. Small writes wait for a block to fill.
//
// If one connection breaks, all of the stream does.
type Sender struct {
	o      SenderOptions
	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	done   chan struct{} // closed when the far side has everything, or err is set
	began  time.Time

	mu      sync.Mutex
	work    sync.Cond // there may be something to send: queue, flow, ending
	room    sync.Cond // there may be room in the queue
	conns   []io.ReadWriteCloser
	filling *block
	queue   []*block
	written uint64 // offset of the end of what was written
	ending  bool   // Close was called
	endSent bool
	over    bool // done is closed
	err     error
	flow    flow
	meter   meter
	choice  choice
}

// A block is on its way from Write to a connection.
type block struct {
	offset uint64
	raw    []byte // in buf, behind the room for a header
	size   int    // that raw is to have
	buf    *buffer
	end    bool
}

// NewSender makes a sender without connections.
func NewSender(o SenderOptions) *Sender {
	s := &Sender{o: o, done: make(chan struct{}), began: time.Now(), written: uint64(o.Offset), flow: newFlow(uint64(o.Offset))}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.L, s.room.L = &s.mu, &s.mu
	return s
}

// Add takes over a connection. Connections may be added while the stream runs. Close of conn must end a Read and a Write
// that wait.
func (s *Sender) Add(conn io.ReadWriteCloser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		go conn.Close()
		return
	}
	s.conns = append(s.conns, conn)
	s.room.Broadcast()
	go s.send(conn)
	go s.listen(conn)
}

// Write takes bytes of the stream. It waits while the connections are busy, also for the first of them to be added. After
// an error, nobody knows how much of the stream the far side has but itself.
func (s *Sender) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for len(p) > 0 {
		if s.ending && s.err == nil {
			return n, errors.New("write after the end of the stream")
		}
		for len(s.queue) > len(s.conns) && s.err == nil {
			s.room.Wait()
		}
		if s.err != nil {
			return n, s.err
		}
		if s.filling == nil {
			buf := newBuffer()
			s.filling = &block{offset: s.written, buf: buf, raw: buf[blockHeader:blockHeader], size: s.flow.block()}
		}
		b := s.filling
		k := min(len(p), b.size-len(b.raw))
		b.raw = append(b.raw, p[:k]...)
		s.written += uint64(k)
		n, p = n+k, p[k:]
		if len(b.raw) == b.size {
			s.enqueue()
		}
	}
	return n, nil
}

func (s *Sender) enqueue() {
	s.queue = append(s.queue, s.filling)
	s.filling = nil
	s.work.Broadcast()
}

// Close sends the end of the stream, waits until the far side has taken everything, and closes the connections.
func (s *Sender) Close() error {
	s.mu.Lock()
	s.ending = true
	if s.filling != nil {
		s.enqueue()
	}
	s.work.Broadcast()
	s.mu.Unlock()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Abort closes the connections. What runs and what comes fails with err.
func (s *Sender) Abort(err error) {
	if err == nil {
		err = ErrClosed
	}
	s.finish(err)
}

// finish ends the stream. The first call counts.
func (s *Sender) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.err = true, err
	s.cancel()
	close(s.done)
	for _, conn := range s.conns {
		go conn.Close() // which may need the far side
	}
	s.work.Broadcast()
	s.room.Broadcast()
}

// send writes blocks to a connection.
func (s *Sender) send(conn io.ReadWriteCloser) {
	p := newPacker()
	for b, mode := s.next(); b != nil; b, mode = s.next() {
		frame, took := p.pack(b, mode)
		began := time.Now()
		err := s.transmit(conn, frame)
		if err != nil {
			select { // that the far side refused may be there to read
			case <-s.done:
			case <-time.After(lastWords):
				s.finish(broken(err))
			}
			return
		}
		s.sent(b, len(frame), took, time.Since(began))
		buffers.Put(b.buf)
	}
}

// next waits for the block to send now. It returns none if there will be none.
func (s *Sender) next() (*block, Compression) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		began := s.clock()
		held := false
		switch {
		case s.over || s.endSent:
			return nil, None
		case len(s.queue) > 0:
			if b := s.queue[0]; s.flow.admit(len(b.raw), len(s.conns), began) {
				s.queue = s.queue[1:]
				s.room.Signal()
				return b, s.mode(began)
			}
			held = true
		case s.ending:
			s.endSent = true
			s.work.Broadcast()
			return &block{offset: s.written, buf: newBuffer(), end: true}, None
		}
		s.work.Wait()
		if waited := s.clock() - began; held {
			s.meter.full += waited
		} else {
			s.meter.other += waited
		}
	}
}

// mode is how to send the next block.
func (s *Sender) mode(now time.Duration) Compression {
	if s.o.Compression != Auto {
		return s.o.Compression
	}
	if l, ok := s.meter.load(now, len(s.conns)); ok {
		s.choice.update(l)
	}
	if s.choice.on {
		return Auto
	}
	return None
}

// sent notes that a block is on its way.
func (s *Sender) sent(b *block, wire int, packing, writing time.Duration) {
	if b.end {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flow.packed(len(b.raw), wire)
	s.meter.full += writing
	s.meter.other += packing
	s.meter.raw += len(b.raw)
	s.meter.wire += wire
	if packing > 0 {
		s.meter.compressed(len(b.raw), packing)
	}
}

func (s *Sender) clock() time.Duration { return time.Since(s.began) }

func (s *Sender) transmit(conn io.Writer, frame []byte) error {
	if err := wait(s.ctx, s.o.Limit, len(frame)); err != nil {
		return err
	}
	n, err := conn.Write(frame)
	if s.o.Wire != nil {
		s.o.Wire(n)
	}
	return err
}

// wait waits for a limiter's leave to transfer n bytes.
func wait(ctx context.Context, limit *rate.Limiter, n int) error {
	if limit == nil || limit.Limit() == rate.Inf {
		return nil
	}
	for n > 0 {
		k := min(n, max(1, limit.Burst()))
		if err := limit.WaitN(ctx, k); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// listen takes acknowledgements.
func (s *Sender) listen(conn io.ReadWriteCloser) {
	var b [ackLength]byte
	for {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			s.finish(broken(err))
			return
		}
		if err, over := s.acknowledge(parseAck(b[:])); over {
			s.finish(err)
			return
		}
	}
}

func (s *Sender) acknowledge(a ack) (err error, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case a.taken < uint64(s.o.Offset):
		return broken(malformed("it wants the stream from byte %d, here it begins at %d", a.taken, s.o.Offset)), true
	case a.taken > a.arrived || a.arrived > s.flow.sent:
		return broken(malformed("it has the stream up to byte %d of %d, here it is sent to %d", a.taken, a.arrived, s.flow.sent)), true
	case a.state == stateRefused:
		return ErrRefused, true
	case a.state == stateDone && !(s.endSent && a.taken == s.written):
		return broken(malformed("done after %d of %d bytes", a.taken, s.written)), true
	case a.state == stateDone:
		s.tell(a.taken)
		return nil, true
	case a.state != stateRunning:
		return broken(malformed("acknowledgement state %d", a.state)), true
	}
	now := s.clock()
	s.tell(a.taken)
	s.flow.acknowledge(a.taken, a.arrived, now)
	s.meter.waiting(s.flow.backlog(), now)
	s.work.Broadcast()
	return nil, false
}

// tell tells what is taken beyond what was.
func (s *Sender) tell(taken uint64) {
	if s.o.Taken != nil && !s.over && taken > s.flow.taken {
		s.o.Taken(int64(taken - s.flow.taken))
	}
}
