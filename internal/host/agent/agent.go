// Package agent is the host that is another machine, on which this program answers: the agent, at the far end of an SSH session.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/host/bring"
	"btrfs-backup/internal/host/protocol"
	"btrfs-backup/lock"
	"btrfs-backup/transport"
	"btrfs-backup/transport/ssh"
	"btrfs-backup/transport/wire"
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

	relocking sync.Mutex // one at a time takes locks again

	bringing sync.Mutex
	brought  *bring.Copy // nil: the installed program answers
}

var _ host.Host = (*Host)(nil)

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
	met, err := h.greet(ctx, protocol.StreamName{})
	if err != nil {
		return nil, err
	}
	if said := met.Banner(); said != "" {
		h.o.Log.Debug(fmt.Sprintf("%s says before the agent: %q", h, said))
	}
	h.conn = met.Conn()
	return h.conn, nil
}

// greetBy starts a session of a program that may be an agent.
func (h *Host) greetBy(ctx context.Context, brought *bring.Copy, stream protocol.StreamName) (*wire.Greeting, error) {
	session, err := h.machine.Session(context.WithoutCancel(ctx), h.line(brought))
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

// call makes a call. One that may be repeated is made again when the connection broke.
func (h *Host) call(ctx context.Context, verb string, args, reply any) error {
	err := h.callOnce(ctx, verb, args, reply, nil)
	repeatable := slices.Contains([]string{protocol.VerbFormat, protocol.VerbOpen, protocol.VerbList, protocol.VerbNested, protocol.VerbMeasure, protocol.VerbCommit, protocol.VerbLedger, protocol.VerbLink, protocol.VerbSync}, verb)
	if repeatable && errors.Is(err, transport.ErrDisconnected) && ctx.Err() == nil {
		h.o.Log.Debug(fmt.Sprintf("%s: %v; once more", h, err))
		if _, err := h.reach(ctx); err != nil {
			return err
		}
		err = h.callOnce(ctx, verb, args, reply, nil)
	}
	return err
}

// callOnce makes a call, with the locks that ended with an earlier connection taken again.
func (h *Host) callOnce(ctx context.Context, verb string, args, reply any, notice func(wire.Raw)) error {
	conn, err := h.connect(ctx)
	if err == nil {
		err = h.relock(ctx)
	}
	if err != nil {
		return err
	}
	return protocol.FromWire(conn.Call(ctx, verb, args, reply, notice))
}

// reach connects again, waiting for the machine, and takes the locks again that were lost with the old connection.
func (h *Host) reach(ctx context.Context) (*wire.Conn, error) {
	conn, err := h.reconnect(ctx, time.Now().Add(h.o.ResumeWindow))
	if err != nil {
		return nil, err
	}
	return conn, h.relock(ctx)
}

// reconnect tries until the given time.
func (h *Host) reconnect(ctx context.Context, end time.Time) (*wire.Conn, error) {
	const longest = 30 * time.Second
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, longest) {
		conn, err := h.connect(ctx)
		again := errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrDisconnected)
		if !again || time.Now().Add(pause).After(end) {
			return conn, err
		}
		h.o.Log.Debug(fmt.Sprintf("%v; next attempt in %s", err, pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
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

func (h *Host) Open(ctx context.Context, path string) (host.Dir, error) {
	d := &dir{host: h}
	err := h.call(ctx, protocol.VerbOpen, protocol.DirName{Path: path}, &d.status)
	return d, err
}

func (h *Host) List(ctx context.Context, path string) (host.Status, host.Content, error) {
	return h.list(ctx, protocol.DirName{Path: path})
}

func (h *Host) list(ctx context.Context, dir protocol.DirName) (host.Status, host.Content, error) {
	var reply protocol.ListReply
	if err := h.call(ctx, protocol.VerbList, dir, &reply); err != nil {
		return host.Status{}, host.Content{}, err
	}
	c := reply.Content
	for _, i := range reply.In {
		if i < 0 || i >= len(c.All) {
			return host.Status{}, host.Content{}, fmt.Errorf("%s: the listing of %s makes no sense", h, dir.Path)
		}
		c.InDirectory = append(c.InDirectory, c.All[i])
	}
	return reply.Status, c, nil
}

func (h *Host) MkdirAll(ctx context.Context, path string) error {
	return h.call(ctx, protocol.VerbMkdir, path, nil)
}

func (h *Host) Format(ctx context.Context) (sendstream.Format, error) {
	h.mu.Lock()
	known := h.format
	h.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	var f sendstream.Format
	if err := h.call(ctx, protocol.VerbFormat, struct{}{}, &f); err != nil {
		return f, err
	}
	h.mu.Lock()
	h.format = &f
	h.mu.Unlock()
	return f, nil
}

// dir is a directory that the agent opens for each call.
type dir struct {
	host   *Host
	status host.Status
}

func (d *dir) Status() host.Status { return d.status }
func (d *dir) name() protocol.DirName {
	return protocol.DirName{Path: d.status.Path, Place: d.status.Place}
}

// Close gives up the locks on the directory.
func (d *dir) Close() error {
	var errs []error
	for _, l := range d.host.locksOn(d) {
		errs = append(errs, l.release())
	}
	return errors.Join(errs...)
}

func (d *dir) List(ctx context.Context) (host.Content, error) {
	_, content, err := d.host.list(ctx, d.name())
	return content, err
}

func (d *dir) Nested(ctx context.Context) (nested []host.Nested, err error) {
	return nested, d.host.call(ctx, protocol.VerbNested, d.name(), &nested)
}

func (d *dir) Take(ctx context.Context, source string, uuid btrfs.UUID, name string) (s btrfs.Subvolume, err error) {
	err = d.host.call(ctx, protocol.VerbTake, protocol.TakeCall{Dir: d.name(), Source: source, UUID: uuid, Name: name}, &s)
	return s, err
}

func (d *dir) Delete(ctx context.Context, names []string, o host.DeleteOptions) ([]string, error) {
	var reply protocol.DeleteReply
	err := d.host.call(ctx, protocol.VerbDelete, protocol.DeleteCall{Dir: d.name(), Names: names, Options: o}, &reply)
	if err == nil && reply.Failure != nil {
		err = protocol.FromWire(reply.Failure)
	}
	return reply.Deleted, err
}

func (d *dir) WriteLedger(ctx context.Context, content []byte) error {
	return d.host.call(ctx, protocol.VerbLedger, protocol.LedgerCall{Dir: d.name(), Content: content}, nil)
}

func (d *dir) Link(ctx context.Context, name, target string) error {
	return d.host.call(ctx, protocol.VerbLink, protocol.LinkCall{Dir: d.name(), Name: name, Target: target}, nil)
}

func (d *dir) Sync(ctx context.Context) error {
	return d.host.call(ctx, protocol.VerbSync, d.name(), nil)
}

func (d *dir) Measure(ctx context.Context, o host.SendOrder) (bytes int64, err error) {
	err = d.host.call(ctx, protocol.VerbMeasure, protocol.SendCall{Dir: d.name(), Order: o}, &bytes)
	return bytes, err
}

// heldLock is a lock that the agent holds. It is taken again after a reconnection, since it ended with the connection.
type heldLock struct {
	dir  *dir
	conn *wire.Conn // that holds it
	id   uint64
}

func (d *dir) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	l := &heldLock{dir: d}
	if err := l.acquire(ctx, waiting); err != nil {
		return nil, err
	}
	d.host.mu.Lock()
	d.host.locks = append(d.host.locks, l)
	d.host.mu.Unlock()
	return l.release, nil
}

func (l *heldLock) acquire(ctx context.Context, waiting func(*lock.HeldError)) error {
	conn, err := l.dir.host.connect(ctx)
	if err != nil {
		return err
	}
	var id uint64
	err = protocol.FromWire(conn.Call(ctx, protocol.VerbLock, protocol.LockCall{Dir: l.dir.name(), Wait: waiting != nil}, &id, func(n wire.Raw) {
		var held lock.HeldError
		if waiting != nil && n.Decode(&held) == nil {
			waiting(&held)
		}
	}))
	if err == nil {
		l.dir.host.mu.Lock()
		l.conn, l.id = conn, id
		l.dir.host.mu.Unlock()
	}
	return err
}

func (l *heldLock) release() error {
	h := l.dir.host
	h.mu.Lock()
	h.locks = slices.DeleteFunc(h.locks, func(other *heldLock) bool { return other == l })
	conn, id := l.conn, l.id
	h.mu.Unlock()
	if conn.Err() != nil {
		return nil // it ended with the connection
	}
	return protocol.FromWire(conn.Call(context.Background(), protocol.VerbUnlock, id, nil, nil))
}

func (h *Host) locksOn(d *dir) []*heldLock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.locks), func(l *heldLock) bool { return l.dir != d })
}

// relock takes the locks that ended with an older connection.
func (h *Host) relock(ctx context.Context) error {
	h.relocking.Lock()
	defer h.relocking.Unlock()
	h.mu.Lock()
	locks := slices.DeleteFunc(slices.Clone(h.locks), func(l *heldLock) bool { return l.conn == h.conn })
	h.mu.Unlock()
	for _, l := range locks {
		waiting := func(held *lock.HeldError) {
			h.o.Log.Info(fmt.Sprintf("%s: waiting for %s", l.dir.status.Path, held.Holder()))
		}
		if err := l.acquire(ctx, waiting); err != nil {
			return err
		}
	}
	return nil
}
