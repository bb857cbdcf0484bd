// Package wire is the protocol between two btrfs-backup programs, over byte streams that somebody else opened.
//
// A Conn carries calls with their replies. A Sender and a Receiver carry one byte stream over any number of connections.
// Neither trusts the far side: memory is bounded and malformed data ends the connection, whatever comes.
package wire

import (
	"bufio"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxCall  = 16 << 20  // bytes of a message to the server
	maxReply = 256 << 20 // bytes of a message from it
)

// lastWords is how long reading goes on when nothing can be written any more.
const lastWords = time.Second

// Options of a Conn. Zero values stand for the defaults.
type Options struct {
	Beat    time.Duration // how often this side shows that it lives; 15 seconds
	Silence time.Duration // how long the far side may show nothing before the connection is closed; 60 seconds
}

// A Conn carries calls, each with its reply, any number at a time, over one byte stream.
type Conn struct {
	rw         io.ReadWriteCloser
	in         *bufio.Reader
	o          Options
	readLimit  int // bytes of a message
	writeLimit int
	peer       Hello
	banner     string

	greeted chan error   // how writing our hello went
	out     chan []byte  // frames to the writer
	began   time.Time    // heard counts from here
	heard   atomic.Int64 // when something came, in nanoseconds
	stuck   atomic.Bool  // nothing is read, because of this side

	once     sync.Once
	broken   chan struct{} // closed after err is set
	err      error
	closed   chan struct{} // closed after closeErr is set
	closeErr error

	mu    sync.Mutex
	last  uint64
	calls map[uint64]*inbox
}

func newConn(rw io.ReadWriteCloser, o Options, readLimit, writeLimit int) *Conn {
	if o.Beat == 0 {
		o.Beat = 15 * time.Second
	}
	if o.Silence == 0 {
		o.Silence = 60 * time.Second
	}
	c := &Conn{rw: rw, o: o, readLimit: readLimit, writeLimit: writeLimit, began: time.Now(),
		greeted: make(chan error, 1),
		out:     make(chan []byte), broken: make(chan struct{}), closed: make(chan struct{}), calls: map[uint64]*inbox{}}
	c.in = bufio.NewReaderSize(hearing{c}, 32<<10)
	return c
}

// hearing is the stream, noting when something came.
type hearing struct{ *Conn }

func (h hearing) Read(p []byte) (int, error) {
	n, err := h.rw.Read(p)
	if n > 0 {
		h.hear()
	}
	return n, err
}

func (c *Conn) hear() { c.heard.Store(int64(time.Since(c.began))) }

// Err tells why the connection ended; nil while it stands.
func (c *Conn) Err() error {
	select {
	case <-c.broken:
		return c.err
	default:
		return nil
	}
}

// Close closes the stream. Calls under way fail.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	<-c.closed
	return c.closeErr
}

// fail ends the connection. The first cause counts. It does not wait for the stream to close: that may need the far side.
func (c *Conn) fail(cause error) {
	c.once.Do(func() {
		c.err = broken(cause)
		close(c.broken)
		go func() {
			c.closeErr = c.rw.Close()
			close(c.closed)
		}()
	})
}

// start begins to write and to watch.
func (c *Conn) start() {
	c.hear()
	go c.write()
	go c.watch()
}

// write writes frames, and beats in between. Both sides beat unasked, rather than one asking and the other answering: a
// question would have to wait behind a long message.
func (c *Conn) write() {
	beat, err := encodeFrame(message{Kind: kindBeat}, c.writeLimit)
	if err != nil {
		panic(err)
	}
	ticker := time.NewTicker(c.o.Beat)
	defer ticker.Stop()
	for {
		var frame []byte
		select {
		case frame = <-c.out:
		case <-ticker.C:
			frame = beat
		case <-c.broken:
			return
		}
		if _, err := c.rw.Write(frame); err != nil {
			select { // what the far side said before it went, and why it did, may be there to read
			case <-c.broken:
			case <-time.After(lastWords):
				c.fail(err)
			}
			return
		}
	}
}

// watch ends a silent connection.
func (c *Conn) watch() {
	timer := time.NewTimer(c.o.Silence)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.broken:
			return
		}
		if c.stuck.Load() {
			timer.Reset(c.o.Silence)
			continue
		}
		quiet := time.Since(c.began) - time.Duration(c.heard.Load())
		if quiet >= c.o.Silence {
			c.fail(ErrSilent)
			return
		}
		timer.Reset(c.o.Silence - quiet)
	}
}

// send hands a message to the writer.
func (c *Conn) send(ctx context.Context, m message) error {
	frame, err := encodeFrame(m, c.writeLimit)
	if err != nil {
		return err
	}
	select {
	case c.out <- frame:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.broken:
		return c.err
	}
}
