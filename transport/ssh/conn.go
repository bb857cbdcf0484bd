package ssh

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/crypto/ssh"
)

// A connection stands, or stood.
type connection struct {
	name   string // of the machine, for messages
	log    *slog.Logger
	client *ssh.Client
	heard  *heardConn
	tcp    io.Closer // the connection of this machine's kernel, beneath all hops
	gone   chan struct{}
	full   atomic.Bool // sshd refused a session; none has ended since

	mu       sync.Mutex
	cause    error // of the end
	channels int   // open ones and those being opened: sessions and forwarded connections
	ended    int   // sessions so far
}

// heardConn remembers when the peer was last heard of.
type heardConn struct {
	net.Conn
	at atomic.Pointer[time.Time]
}

func newHeardConn(c net.Conn) *heardConn {
	h := &heardConn{Conn: c}
	h.note()
	return h
}

func (h *heardConn) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 {
		h.note()
	}
	return n, err
}

func (h *heardConn) note() {
	now := time.Now()
	h.at.Store(&now)
}

func (h *heardConn) silence() time.Duration { return time.Since(*h.at.Load()) }

// watch follows the connection to its end, which comes when the peer leaves count probes unanswered.
func (c *connection) watch(interval time.Duration, count int) {
	go c.probe(interval, count)
	c.close(c.client.Wait())
	close(c.gone)
}

// probe asks a peer that was silent for an interval whether it is there, again after each further one.
func (c *connection) probe(interval time.Duration, count int) {
	var asking atomic.Bool
	for unanswered := 0; ; {
		last, wait := c.heard.at.Load(), interval
		if unanswered == 0 {
			wait -= time.Since(*last)
		}
		select {
		case <-c.gone:
			return
		case <-time.After(wait):
		}
		if c.heard.at.Load() != last {
			unanswered = 0
			continue
		}
		if unanswered == count {
			c.close(fmt.Errorf("no answer for %s", time.Since(*last).Round(time.Second)))
			return
		}
		unanswered++
		if asking.CompareAndSwap(false, true) {
			go func() { // the request itself blocks when the peer does not read
				_ = c.probeOnce() // any answer is heard
				asking.Store(false)
			}()
		}
	}
}

// probeOnce waits for an answer of the peer, be it a refusal. The error tells that the connection ended.
func (c *connection) probeOnce() error {
	_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
	return err
}

// close breaks the connection, whatever state it is in. The first cause is kept.
func (c *connection) close(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	_ = c.tcp.Close() // closed before is as good
}

func (c *connection) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.cause != nil
	}
}

// orLost tells the cause of the connection's end, if it ended.
func (c *connection) orLost(err error) error {
	var missing *ssh.ExitMissingError
	if !errors.As(err, &missing) && !errors.Is(err, io.EOF) && !c.isGone() {
		return err
	}
	select {
	case <-c.gone: // it comes soon after the channels are closed
	case <-time.After(time.Second):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cause := c.cause
	if cause == nil || errors.Is(cause, io.EOF) {
		cause = errors.New("the other end closed it")
	}
	return &failure{text: "connection lost", cause: cause, kind: transport.ErrDisconnected,
		hint: "see whether " + c.name + " and the network to it are up, and what its sshd logged"}
}
