package sshtest

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy is a TCP proxy before a server, to disturb connections with.
type Proxy struct {
	Addr     string       // what it listens on
	Up, Down atomic.Int64 // bytes passed to the server, and from it

	target  string
	delay   atomic.Int64
	near    atomic.Int64 // round trips of which the near side can know
	far     atomic.Int64 // the same for the server
	mu      sync.Mutex
	changed *sync.Cond
	stalled bool
	listen  net.Listener // nil: it refuses
	conns   map[net.Conn]bool
}

// NewProxy starts a proxy before addr that ends with the test.
func NewProxy(t testing.TB, addr string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", Port(t)))
	check(t, err)
	p := &Proxy{Addr: l.Addr().String(), target: addr, listen: l, conns: map[net.Conn]bool{}}
	p.changed = sync.NewCond(&p.mu)
	go p.serve(l)
	t.Cleanup(func() {
		p.Refuse(true)
		p.Cut()
	})
	return p
}

// Port is the port that it listens on.
func (p *Proxy) Port() int { return p.listenAddr().Port }

func (p *Proxy) listenAddr() *net.TCPAddr {
	addr, err := net.ResolveTCPAddr("tcp", p.Addr)
	if err != nil {
		panic(err) // it came from a listener
	}
	return addr
}

// Delay delays bytes by d in each direction from now on. It does not limit the rate.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Cut breaks every connection. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
	p.changed.Broadcast()
}

// Stall keeps connections, also new ones, but passes nothing while it is on.
func (p *Proxy) Stall(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = on
	p.changed.Broadcast()
}

// Refuse refuses new connections while it is on.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case on && p.listen != nil:
		p.listen.Close()
		p.listen = nil
	case !on && p.listen == nil:
		l, err := net.Listen("tcp", p.Addr)
		if err != nil {
			panic(err) // the port is ours
		}
		p.listen = l
		go p.serve(l)
	}
}

func (p *Proxy) serve(l net.Listener) {
	for {
		near, err := l.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns[near], p.conns[far] = true, true
		p.mu.Unlock()
		go p.pass(near, far, way{passed: &p.Up, from: &p.near, to: &p.far})
		go p.pass(far, near, way{passed: &p.Down, from: &p.far, to: &p.near, back: 1})
	}
}

// RoundTrips counts, over all connections, answers of the server of which each came to something that was sent with the one before
// already there. A delay keeps apart what only happens to be sent after an answer.
func (p *Proxy) RoundTrips() int64 { return p.near.Load() }

// A way is one direction of a connection.
type way struct {
	passed   *atomic.Int64
	from, to *atomic.Int64 // round trips that its ends know of
	back     int64         // what an arrival adds to those of the sender
}

// arrive lets the end know what the other one knew when it sent.
func (w way) arrive(known int64) {
	known += w.back
	for now := w.to.Load(); now < known && !w.to.CompareAndSwap(now, known); now = w.to.Load() {
	}
}

type delayed struct {
	bytes []byte
	due   time.Time
	known int64 // round trips, by who sent it
}

// pass passes bytes in one direction. Up to 128 MiB are under way, so that only the delay slows them.
func (p *Proxy) pass(from, to net.Conn, w way) {
	under := make(chan delayed, 4096)
	go func() {
		defer close(under)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				under <- delayed{b[:n], time.Now().Add(time.Duration(p.delay.Load())), w.from.Load()}
			}
			if err != nil {
				return
			}
		}
	}()
	for d := range under {
		time.Sleep(time.Until(d.due))
		if !p.open(to) {
			continue
		}
		w.passed.Add(int64(len(d.bytes)))
		w.arrive(d.known)
		_, _ = to.Write(d.bytes) // a broken connection is noticed by both of its ends
	}
	p.open(to)
	from.Close()
	to.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
	delete(p.conns, to)
}

// open waits while bytes are stalled and tells whether the connection still stands.
func (p *Proxy) open(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stalled && p.conns[c] {
		p.changed.Wait()
	}
	return p.conns[c]
}
