package object

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// Requests counts what servers are asked for, by its kind, with all that is asked again.
type Requests struct {
	List, Get, Put, Head, Delete, Other atomic.Int64
}

// Counts gives the numbers by the names of the kinds.
func (r *Requests) Counts() map[string]int64 {
	return map[string]int64{"list": r.List.Load(), "get": r.Get.Load(), "put": r.Put.Load(), "head": r.Head.Load(),
		"delete": r.Delete.Load(), "other": r.Other.Load()}
}

func (r *Requests) add(request *http.Request) {
	query := request.URL.Query()
	switch {
	case r == nil:
	case request.Method == http.MethodPut:
		r.Put.Add(1)
	case request.Method == http.MethodHead:
		r.Head.Add(1)
	case request.Method == http.MethodDelete, request.Method == http.MethodPost && query.Has("delete"):
		r.Delete.Add(1)
	case request.Method == http.MethodGet && (query.Has("list-type") || query.Has("versions")):
		r.List.Add(1)
	case request.Method == http.MethodGet && !query.Has("location"):
		r.Get.Add(1)
	default:
		r.Other.Add(1)
	}
}

// An answer is what the last response to an attempt tells beside what the client makes of it.
type answer struct {
	header http.Header // nil: there was none
	good   int         // how many responses were no errors
}

type answerKey struct{}

// wire carries requests: it counts them, and slows down what is uploaded.
type wire struct {
	next     http.RoundTripper
	limiter  *rate.Limiter
	requests *Requests
}

func newWire(o S3Options, dial func(ctx context.Context, network, address string) (net.Conn, error)) *wire {
	if dial == nil {
		dial = (&net.Dialer{Timeout: o.Silence}).DialContext
	}
	const most = 16
	return &wire{limiter: o.Limit, requests: o.Requests, next: &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{Conn: c, silence: o.Silence, count: o.Wire}, nil
		},
		MaxIdleConnsPerHost: most, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: o.Silence,
		ExpectContinueTimeout: time.Second, DisableCompression: true,
	}}
}

// RoundTrip makes a request. One with much content asks first whether it is welcome: a server that refuses it need not cut the
// connection, which would hide why.
func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	w.requests.add(request)
	const much = 1 << 20
	if request.ContentLength >= much {
		request = request.Clone(request.Context())
		request.Header.Set("Expect", "100-continue")
	}
	if request.Body != nil && w.limiter != nil {
		request = request.WithContext(request.Context())
		request.Body = &limitedBody{request.Context(), request.Body, w.limiter}
	}
	response, err := w.next.RoundTrip(request)
	if a, ok := request.Context().Value(answerKey{}).(*answer); ok && response != nil {
		a.header = response.Header
		if response.StatusCode < http.StatusBadRequest {
			a.good++
		}
	}
	return response, err
}

// limitedBody is read no faster than the limiter lets it.
type limitedBody struct {
	ctx context.Context
	io.ReadCloser
	limiter *rate.Limiter
}

func (b *limitedBody) Read(p []byte) (int, error) {
	const most = 16 << 10 // so that the connection is never silent for long
	n, err := b.ReadCloser.Read(p[:min(len(p), most, b.limiter.Burst())])
	if n > 0 {
		if err := b.limiter.WaitN(b.ctx, n); err != nil {
			return 0, err
		}
	}
	return n, err
}

// conn is a connection that is given up when nothing moves on it for a while: nothing is received, and the peer gets nothing.
type conn struct {
	net.Conn
	silence time.Duration
	count   func(int64) // may be nil
	acked   uint64      // bytes that the peer had when that was last asked
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		if err := c.SetReadDeadline(time.Now().Add(c.silence)); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		c.counted(n)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !c.moves() {
			return n, err
		}
	}
}

// moves tells whether the peer got something since it was last asked: what is written may wait here for long.
func (c *conn) moves() bool {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	moves := false
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			moves = info.Bytes_acked != c.acked
			c.acked = info.Bytes_acked
		}
	})
	return err == nil && moves
}

// Write also gives the peer new time to answer: somebody reads meanwhile, until all is written.
func (c *conn) Write(p []byte) (written int, err error) {
	const most = 64 << 10
	for {
		if err := c.SetDeadline(time.Now().Add(c.silence)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[:min(len(p), most)])
		c.counted(n)
		written += n
		if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil // it is slow
		}
		if p = p[n:]; err != nil || len(p) == 0 {
			return written, err
		}
	}
}

func (c *conn) counted(n int) {
	if c.count != nil && n > 0 {
		c.count(int64(n))
	}
}
