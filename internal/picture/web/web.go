// Package web serves a picture of backups to browsers on this machine, and what runs are doing meanwhile.
//
// It only reads. Nobody logs in, so it listens on loopback addresses only, and answers nothing that another site has a browser ask: the
// name of the server must be the one it listens on, lest a name of somebody else's leads here, and the request must not come from another
// origin. The page loads nothing and runs nothing but its own script.
package web

import (
	"bytes"
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/picture"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

//go:embed live.js
var script string

// A Server shows a picture, which is made anew when it is asked for and too old, or when a run has ended since.
type Server struct {
	Make    func(ctx context.Context) picture.Picture
	Runtime string // where runs that are under way tell so
	History report.History
	Now     func() time.Time

	mu    sync.Mutex // is held while a picture is made, so that it is made once
	shown picture.Picture
	of    time.Time // when a run was put on record last
	hosts []string
}

const (
	tooOld    = time.Minute // for a picture
	readLimit = 10 * time.Second
	goodbye   = 2 * time.Second // for answers under way when the server ends
)

// An AddressError tells that nothing is served at an address, and why.
type AddressError struct{ error }

func (e AddressError) Unwrap() error { return e.error }

func refused(forward, format string, args ...any) error {
	return AddressError{hint.New(fmt.Errorf(format, args...), forward)}
}

// parse reads HOST:PORT.
func parse(text string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(text)
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, ipErr := netip.ParseAddr(host)
	number, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil, ipErr != nil, portErr != nil, ip.Zone() != "":
		return netip.AddrPort{}, refused("use 127.0.0.1:8090", "%q is no address and port of this machine", text)
	case !ip.Unmap().IsLoopback():
		return netip.AddrPort{}, refused(fmt.Sprintf("use 127.0.0.1:%s; from another machine: ssh -L %s:127.0.0.1:%s THIS_MACHINE", port, port, port),
			"%s can be reached from other machines, and nobody is asked for a password", text)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
}

// Serve answers at an address, HOST:PORT, until the context ends. It tells where when it is ready.
func (s *Server) Serve(ctx context.Context, address string, ready func(url string)) error {
	at, err := parse(address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", at.String())
	if err != nil {
		return fmt.Errorf("serving at %s: %w", at, lock.Cause(err))
	}
	own := listener.Addr().(*net.TCPAddr).AddrPort()
	s.hosts = []string{own.String(), fmt.Sprintf("localhost:%d", own.Port())}
	server := http.Server{Handler: s, ReadTimeout: readLimit, IdleTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	ready("http://" + own.String() + "/")
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	<-ended
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for name, value := range map[string]string{
		"Content-Security-Policy":      picture.Directive(script) + "; frame-ancestors 'none'",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store",
		"Content-Type":                 "text/html; charset=utf-8",
	} {
		h.Set(name, value)
	}
	if status, why := s.refusal(r); why != "" {
		if status == http.StatusMethodNotAllowed {
			h.Set("Allow", "GET, HEAD")
		}
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = fmt.Fprintln(w, why)
		return
	}
	var body bytes.Buffer
	var err error
	if r.URL.Path == "/" {
		p := s.picture(r.Context())
		p.Running = underway.Runs(r.Context(), s.Runtime)
		err = p.WriteLive(&body, script)
	} else {
		h.Set("ETag", strconv.Quote(strconv.FormatInt(s.History.Changed().UnixNano(), 36)))
		err = picture.WriteRunning(&body, underway.Runs(r.Context(), s.Runtime), s.Now())
	}
	if err != nil {
		http.Error(w, "internal error: "+err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body.Bytes()) // whoever asked may be gone
}

// refusal tells why a request is not answered; "" if it is.
func (s *Server) refusal(r *http.Request) (status int, why string) {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	switch {
	case !slices.Contains(s.hosts, r.Host):
		return http.StatusForbidden, "btrfs-backup is at " + s.hosts[0] + ", and has no other name."
	case origin != "" && !slices.ContainsFunc(s.hosts, func(host string) bool { return origin == "http://"+host }),
		site != "" && site != "none" && site != "same-origin":
		return http.StatusForbidden, "Another site asked for this. Type the address instead: http://" + s.hosts[0] + "/"
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return http.StatusMethodNotAllowed, "Nothing can be changed here."
	case r.URL.Path != "/" && r.URL.Path != "/progress":
		return http.StatusNotFound, "There is nothing here but http://" + s.hosts[0] + "/"
	}
	return http.StatusOK, ""
}

// picture gives one that is not too old.
func (s *Server) picture(ctx context.Context) picture.Picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	if changed := s.History.Changed(); s.Now().Sub(s.shown.Time) > tooOld || !changed.Equal(s.of) {
		made := s.Make(context.WithoutCancel(ctx)) // others may wait for it, too
		s.shown, s.of = made, changed
	}
	return s.shown
}
