// Package agent is the host that is another machine, on which this program answers: the agent, at the far end of an SSH session.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/bring"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// Options are how an agent is used.
type Options struct {
	Log          *slog.Logger
	Version      string
	Command      string // the program at the far end; "" for btrfs-backup in PATH
	Bring        bool   // this program, where that is missing or speaks another protocol
	Agents       string // the directory of what is brought to other CPUs; "" for bring.DefaultAgents
	Sudo         bool   // run it by sudo
	Channels     int    // sessions that carry a stream, at most
	Compression  wire.Compression
	ResumeWindow time.Duration // how long a machine that was lost is tried to reach
}

// Host is another machine, on which this program answers. It is reached when it is first needed.
type Host struct {
	machine *ssh.Machine
	o       Options

	mu     sync.Mutex
	conn   *wire.Conn // nil: not connected
	locks  []*heldLock
	format *sendstream.Format
	lost   time.Time // when it was found that the machine cannot be reached any more; zero: it can be

	relocking sync.Mutex   // one at a time takes locks again
	unlocking sync.RWMutex // read-locked by each that gives one up

	bringing sync.Mutex
	brought  *bring.Copy // nil: the installed program answers
}

var (
	_ host.Trees    = (*Host)(nil)
	_ rsh.Reachable = (*Host)(nil)
)

// New gives a machine without reaching it yet. A machine on which no agent answers is a *wire.NoAgentError then.
func New(machine *ssh.Machine, o Options) *Host { return &Host{machine: machine, o: o} }

func (h *Host) String() string { return urlOf(h.machine) }

// urlOf names a machine as in ssh://[user@]host[:port].
func urlOf(machine *ssh.Machine) string { return "ssh://" + machine.String() }

// connect gives the connection, a new one if there is none that stands.
func (h *Host) connect(ctx context.Context) (*wire.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil && h.conn.Err() == nil {
		return h.conn, nil
	}
	met, err := h.greet(ctx, h.ahead(ctx), protocol.StreamName{})
	if err != nil {
		return nil, err
	}
	if said := met.Banner(); said != "" {
		h.o.Log.Debug(fmt.Sprintf("%s says before the agent: %q", h, said))
	}
	h.conn = met.Conn()
	return h.conn, nil
}

// An opening is a session of a program that may be an agent, on its way.
type opening struct {
	brought *bring.Copy
	done    chan struct{} // closed when it is there
	session *transport.Session
	err     error
}

// ahead opens a session that is going to be needed.
func (h *Host) ahead(ctx context.Context) *opening {
	h.bringing.Lock()
	defer h.bringing.Unlock()
	return h.open(ctx, h.brought)
}

func (h *Host) open(ctx context.Context, brought *bring.Copy) *opening {
	o := &opening{brought: brought, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.session, o.err = h.machine.Session(context.WithoutCancel(ctx), h.line(brought))
	}()
	return o
}

// drop ends a session that is not needed after all.
func (o *opening) drop() {
	go func() {
		if <-o.done; o.err == nil {
			o.session.Kill()
			_ = o.session.Wait() // it ends because of this
		}
	}()
}

// greetBy says what a session is for.
func (h *Host) greetBy(ctx context.Context, o *opening, stream protocol.StreamName) (*wire.Greeting, error) {
	<-o.done
	session, err := o.session, o.err
	if err != nil {
		return nil, err
	}
	part, err := wire.Encode(protocol.Greeting{Join: stream, ResumeWindow: h.o.ResumeWindow})
	if err != nil {
		return nil, err
	}
	rw := &sessionStream{Session: session}
	met, err := wire.Dial(ctx, rw, wire.Hello{Version: h.o.Version, Part: part}, wire.Options{})
	rw.met.Store(err == nil)
	var noAgent *wire.NoAgentError
	if errors.As(err, &noAgent) {
		waitErr := session.Wait()
		if errors.Is(waitErr, transport.ErrDisconnected) || errors.Is(waitErr, transport.ErrUnreachable) {
			return nil, waitErr
		}
		noAgent.Err = cmp.Or(waitErr, noAgent.Err)
	}
	return met, err
}

// sessionStream is a session as a stream.
type sessionStream struct {
	*transport.Session
	once sync.Once
	met  atomic.Bool // the agent has answered
}

func (s *sessionStream) Read(p []byte) (int, error)  { return s.Stdout.Read(p) }
func (s *sessionStream) Write(p []byte) (int, error) { return s.Stdin.Write(p) }

// Close leaves a program that is no agent the time to tell by its exit status what it is.
func (s *sessionStream) Close() error {
	const grace = 2 * time.Second
	s.once.Do(func() {
		if s.met.Load() {
			s.Kill()
		} else {
			time.AfterFunc(grace, s.Kill)
		}
		go func() { _ = s.Wait() }() // it ends because of this
	})
	return nil
}

// Close ends the connection, that of SSH too.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return h.machine.Close()
	}
	return errors.Join(h.conn.Close(), h.machine.Close())
}
