package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Proxy stands before a server, counts requests, and fails as it is told to.
type Proxy struct {
	behind http.RoundTripper

	mu     sync.Mutex
	faults []*Fault
	counts map[string]int
	healed chan struct{} // closed by Heal
}

// A Fault is something that goes wrong. The first one that matches a request is used.
type Fault struct {
	Match func(*http.Request) bool // nil: all requests
	Times int                      // how often; 0: always
	Skip  int                      // how many requests that match are spared before

	Status     int    // the proxy answers with this, and the server sees nothing
	Code       string // of such an answer
	RetryAfter string

	Cut     bool              // the connection is closed, and the server sees nothing
	Lose    bool              // the server gets the request, and the connection is closed in place of its answer
	Hang    bool              // nothing is answered until Heal
	Damage  bool              // a byte of what is sent is changed
	Short   int               // the connection is closed after this many bytes of the content of an answer
	Headers map[string]string // of the request are changed
	Date    time.Time         // in the header of the answer; zero: the server's
	Slow    time.Duration     // is taken for each 256 KiB, in both directions
}

func newProxy(socket string) *Proxy {
	return &Proxy{counts: make(map[string]int), healed: make(chan struct{}), behind: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 64, DisableCompression: true,
	}}
}

// Fail adds a fault.
func (p *Proxy) Fail(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &f)
}

// Heal ends all faults.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
	close(p.healed)
	p.healed = make(chan struct{})
}

// Counts tells how many requests of each kind came: LIST, GET, PUT, HEAD, DELETE and OTHER. They are counted anew from then on.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := maps.Clone(p.counts)
	clear(p.counts)
	return counts
}

// Kind is that of a request.
func Kind(r *http.Request) string {
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && query.Has("delete"):
		return "DELETE"
	case r.Method == http.MethodGet && (query.Has("list-type") || query.Has("versions")):
		return "LIST"
	case r.Method == http.MethodPost, len(query) > 0 && !query.Has("versionId") && !query.Has("x-id"):
		return "OTHER"
	}
	return r.Method
}

// Of matches requests of a kind.
func Of(kind string) func(*http.Request) bool {
	return func(r *http.Request) bool { return Kind(r) == kind }
}

// next counts a request, and gives what goes wrong with it.
func (p *Proxy) next(r *http.Request) (Fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[Kind(r)]++
	for i, f := range p.faults {
		if f.Match != nil && !f.Match(r) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			break
		}
		if f.Times == 1 {
			p.faults = append(p.faults[:i:i], p.faults[i+1:]...)
		}
		f.Times--
		return *f, p.healed
	}
	return Fault{}, p.healed
}

// ServeHTTP answers a request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, healed := p.next(r)
	switch {
	case f.Hang:
		select {
		case <-healed:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler) // closes the connection
	case f.Cut:
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(f.Status)
		fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>made up by the test</Message></Error>", f.Code)
		return
	}
	p.forward(w, r, f)
}

func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, f Fault) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = "http", "server"
	for name, value := range f.Headers {
		out.Header.Set(name, value)
	}
	if f.Damage {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		content[len(content)/2] ^= 1
		out.Body = io.NopCloser(bytes.NewReader(content))
	}
	if f.Slow > 0 {
		out.Body = slowBody{out.Body, f.Slow}
	}
	if out.ContentLength == 0 {
		out.Body = nil
	}
	answer, err := p.behind.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	if f.Lose {
		_, _ = io.Copy(io.Discard, answer.Body)
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), answer.Header)
	if !f.Date.IsZero() {
		w.Header().Set("Date", f.Date.UTC().Format(http.TimeFormat))
	}
	w.WriteHeader(answer.StatusCode)
	content := io.Reader(answer.Body)
	if f.Slow > 0 {
		content = slowBody{answer.Body, f.Slow}
	}
	if f.Short > 0 {
		content = io.LimitReader(content, int64(f.Short))
	}
	_, err = io.Copy(w, content)
	if err != nil || f.Short > 0 {
		_ = http.NewResponseController(w).Flush() // what is cut arrives as far as it goes
		panic(http.ErrAbortHandler)
	}
}

// slowBody takes its time.
type slowBody struct {
	io.ReadCloser
	pause time.Duration
}

func (b slowBody) Read(p []byte) (int, error) {
	const size = 256 << 10
	n, err := io.ReadFull(b.ReadCloser, p[:min(len(p), size)])
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	time.Sleep(b.pause * time.Duration(n) / size)
	return n, err
}
