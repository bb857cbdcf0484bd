package wire

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A line is what all connections between two machines share.
type line struct {
	delay time.Duration // one way
	rate  float64       // bytes per second; 0 is unlimited
	cap   int           // bytes that a connection carries per round trip; 0 is unlimited

	mu   sync.Mutex
	free time.Time
}

// transit returns when n bytes that are sent now will arrive, and waits while the socket buffer is full.
func (l *line) transit(n int) time.Time {
	const socketBuffer = 256 << 10
	l.mu.Lock()
	now := time.Now()
	if l.rate == 0 {
		l.mu.Unlock()
		return now.Add(l.delay)
	}
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * 1e9))
	free := l.free
	l.mu.Unlock()
	time.Sleep(time.Until(free.Add(-time.Duration(socketBuffer / l.rate * 1e9))))
	return free.Add(l.delay)
}

// A lane is one direction of a connection.
type lane struct {
	line *line

	mu       sync.Mutex
	cond     sync.Cond
	segments []segment
	credit   int  // bytes that were sent and are not known to be read
	ended    bool // by the writer
	deaf     bool // the reader is gone
}

type segment struct {
	data []byte
	at   time.Time
}

func newLane(l *line) *lane {
	n := &lane{line: l}
	n.cond.L = &n.mu
	return n
}

func (n *lane) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		k := min(len(p), 32<<10)
		n.mu.Lock()
		for n.line.cap > 0 && n.credit+k > n.line.cap && !n.deaf && !n.ended {
			n.cond.Wait()
		}
		if n.deaf || n.ended {
			n.mu.Unlock()
			return total, syscall.EPIPE
		}
		n.credit += k
		n.mu.Unlock()
		at := n.line.transit(k)
		n.mu.Lock()
		n.segments = append(n.segments, segment{bytes.Clone(p[:k]), at})
		n.cond.Broadcast()
		n.mu.Unlock()
		total, p = total+k, p[k:]
	}
	return total, nil
}

func (n *lane) Read(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if n.deaf {
			return 0, os.ErrClosed
		}
		if len(n.segments) > 0 {
			s := &n.segments[0]
			if wait := time.Until(s.at); wait > 0 {
				time.AfterFunc(wait, n.wake)
				n.cond.Wait()
				continue
			}
			k := copy(p, s.data)
			if s.data = s.data[k:]; len(s.data) == 0 {
				n.segments = n.segments[1:]
			}
			time.AfterFunc(n.line.delay, func() { n.repay(k) })
			return k, nil
		}
		if n.ended {
			return 0, io.EOF
		}
		n.cond.Wait()
	}
}

func (n *lane) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cond.Broadcast()
}

func (n *lane) repay(k int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.credit -= k
	n.cond.Broadcast()
}

func (n *lane) close(writer bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = n.ended || writer
	n.deaf = n.deaf || !writer
	n.cond.Broadcast()
}

// An end is one of the two of a connection over a line.
type end struct{ in, out *lane }

func (e end) Read(p []byte) (int, error)  { return e.in.Read(p) }
func (e end) Write(p []byte) (int, error) { return e.out.Write(p) }
func (e end) Close() error {
	e.in.close(false)
	e.out.close(true)
	return nil
}

func (l *line) connect() (a, b io.ReadWriteCloser) {
	there, back := newLane(l), newLane(&line{delay: l.delay})
	return end{in: back, out: there}, end{in: there, out: back}
}

// socketpair is a pair of connected sockets.
func socketpair(t testing.TB) (a, b io.ReadWriteCloser) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// brittle fails, and closes, after so many bytes were written to it.
type brittle struct {
	io.ReadWriteCloser
	left int
}

func (b *brittle) Write(p []byte) (int, error) {
	if len(p) <= b.left {
		b.left -= len(p)
		return b.ReadWriteCloser.Write(p)
	}
	n, _ := b.ReadWriteCloser.Write(p[:b.left])
	b.left = 0
	b.Close()
	return n, syscall.ECONNRESET
}
