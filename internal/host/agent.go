package host

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
	"btrfs-backup/internal/hint"
	"btrfs-backup/lock"
	"btrfs-backup/transport"
	"btrfs-backup/transport/ssh"
	"btrfs-backup/transport/wire"
)

// AgentOptions are how an agent is used.
type AgentOptions struct {
	Log          *slog.Logger
	Version      string
	Command      string // the program at the far end; "" for btrfs-backup in PATH
	Sudo         bool   // run it by sudo
	Channels     int    // sessions that carry a stream, at most
	Compression  wire.Compression
	ResumeWindow time.Duration // how long a machine that was lost is tried to reach
}

// Agent is another machine, on which this program answers. It is reached when it is first needed.
type Agent struct {
	machine *ssh.Machine
	o       AgentOptions

	mu     sync.Mutex
	conn   *wire.Conn // nil: not connected
	locks  []*agentLock
	format *sendstream.Format

	relocking sync.Mutex // one at a time takes locks again
}

var _ Host = (*Agent)(nil)

// NewAgent gives a machine without reaching it yet. A machine on which no agent answers is a *wire.NoAgentError then.
func NewAgent(machine *ssh.Machine, o AgentOptions) *Agent { return &Agent{machine: machine, o: o} }

func (a *Agent) String() string { return urlOf(a.machine) }

// urlOf names a machine as in ssh://[user@]host[:port].
func urlOf(machine *ssh.Machine) string { return "ssh://" + machine.String() }

// line is the command line that starts the agent. The option keeps older programs of the same name, which know neither the
// command nor the option, from doing anything.
func (a *Agent) line() string {
	const script = `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; exec "$@"`
	command := a.o.Command
	if command == "" {
		command = "btrfs-backup"
	}
	argv := []string{command, "serve", fmt.Sprintf("--protocol=%d", wire.Protocol)}
	if a.o.Sudo {
		argv = append([]string{"sudo", "-n", "--"}, argv...)
	}
	return transport.Quote(append([]string{"sh", "-c", script, "sh"}, argv...)...)
}

// connect gives the connection, a new one if there is none that stands.
func (a *Agent) connect(ctx context.Context) (*wire.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil && a.conn.Err() == nil {
		return a.conn, nil
	}
	met, err := a.greet(ctx, streamName{})
	var none *wire.NoAgentError
	if errors.As(err, &none) {
		return nil, hint.New(err, a.noAgentHint(none))
	}
	if err != nil {
		return nil, err
	}
	if said := met.Banner(); said != "" {
		a.o.Log.Debug(fmt.Sprintf("%s says before the agent: %q", a, said))
	}
	a.conn = met.Conn()
	return a.conn, nil
}

// greet starts a session of the agent.
func (a *Agent) greet(ctx context.Context, stream streamName) (*wire.Greeting, error) {
	session, err := a.machine.Session(context.WithoutCancel(ctx), a.line())
	if err != nil {
		return nil, err
	}
	part, err := wire.Encode(greeting{Join: stream, ResumeWindow: a.o.ResumeWindow})
	if err != nil {
		return nil, err
	}
	rw := &agentSession{Session: session}
	met, err := wire.Dial(ctx, rw, wire.Hello{Version: a.o.Version, Part: part}, wire.Options{})
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

// agentSession is a session as a stream.
type agentSession struct {
	*transport.Session
	once sync.Once
	met  atomic.Bool // the agent has answered
}

func (s *agentSession) Read(p []byte) (int, error)  { return s.Stdout.Read(p) }
func (s *agentSession) Write(p []byte) (int, error) { return s.Stdin.Write(p) }

// Close leaves a program that is no agent the time to tell by its exit status what it is.
func (s *agentSession) Close() error {
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
func (a *Agent) call(ctx context.Context, verb string, args, reply any) error {
	err := a.callOnce(ctx, verb, args, reply, nil)
	repeatable := slices.Contains([]string{verbFormat, verbOpen, verbList, verbNested, verbMeasure, verbCommit, verbLedger, verbLink, verbSync}, verb)
	if repeatable && errors.Is(err, transport.ErrDisconnected) && ctx.Err() == nil {
		a.o.Log.Debug(fmt.Sprintf("%s: %v; once more", a, err))
		if _, err := a.reach(ctx); err != nil {
			return err
		}
		err = a.callOnce(ctx, verb, args, reply, nil)
	}
	return err
}

// callOnce makes a call, with the locks that ended with an earlier connection taken again.
func (a *Agent) callOnce(ctx context.Context, verb string, args, reply any, notice func(wire.Raw)) error {
	conn, err := a.connect(ctx)
	if err == nil {
		err = a.relock(ctx)
	}
	if err != nil {
		return err
	}
	return fromWire(conn.Call(ctx, verb, args, reply, notice))
}

// reach connects again, waiting for the machine, and takes the locks again that were lost with the old connection.
func (a *Agent) reach(ctx context.Context) (*wire.Conn, error) {
	conn, err := a.reconnect(ctx, time.Now().Add(a.o.ResumeWindow))
	if err != nil {
		return nil, err
	}
	return conn, a.relock(ctx)
}

// reconnect tries until the given time.
func (a *Agent) reconnect(ctx context.Context, end time.Time) (*wire.Conn, error) {
	const longest = 30 * time.Second
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, longest) {
		conn, err := a.connect(ctx)
		again := errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrDisconnected)
		if !again || time.Now().Add(pause).After(end) {
			return conn, err
		}
		a.o.Log.Debug(fmt.Sprintf("%v; next attempt in %s", err, pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close ends the connection, that of SSH too.
func (a *Agent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == nil {
		return a.machine.Close()
	}
	return errors.Join(a.conn.Close(), a.machine.Close())
}

func (a *Agent) Open(ctx context.Context, path string) (Dir, error) {
	d := &agentDir{host: a}
	err := a.call(ctx, verbOpen, dirName{Path: path}, &d.status)
	return d, err
}

func (a *Agent) List(ctx context.Context, path string) (Status, Content, error) {
	return a.list(ctx, dirName{Path: path})
}

func (a *Agent) list(ctx context.Context, dir dirName) (Status, Content, error) {
	var reply listReply
	if err := a.call(ctx, verbList, dir, &reply); err != nil {
		return Status{}, Content{}, err
	}
	c := reply.Content
	for _, i := range reply.In {
		if i < 0 || i >= len(c.All) {
			return Status{}, Content{}, fmt.Errorf("%s: the listing of %s makes no sense", a, dir.Path)
		}
		c.InDirectory = append(c.InDirectory, c.All[i])
	}
	return reply.Status, c, nil
}

func (a *Agent) MkdirAll(ctx context.Context, path string) error {
	return a.call(ctx, verbMkdir, path, nil)
}

func (a *Agent) Format(ctx context.Context) (sendstream.Format, error) {
	a.mu.Lock()
	known := a.format
	a.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	var f sendstream.Format
	if err := a.call(ctx, verbFormat, struct{}{}, &f); err != nil {
		return f, err
	}
	a.mu.Lock()
	a.format = &f
	a.mu.Unlock()
	return f, nil
}

// agentDir is a directory that the agent opens for each call.
type agentDir struct {
	host   *Agent
	status Status
}

func (d *agentDir) Status() Status { return d.status }
func (d *agentDir) name() dirName  { return dirName{d.status.Path, d.status.Place} }

// Close gives up the locks on the directory.
func (d *agentDir) Close() error {
	var errs []error
	for _, l := range d.host.locksOn(d) {
		errs = append(errs, l.release())
	}
	return errors.Join(errs...)
}

func (d *agentDir) List(ctx context.Context) (Content, error) {
	_, content, err := d.host.list(ctx, d.name())
	return content, err
}

func (d *agentDir) Nested(ctx context.Context) (nested []Nested, err error) {
	return nested, d.host.call(ctx, verbNested, d.name(), &nested)
}

func (d *agentDir) Take(ctx context.Context, source string, uuid btrfs.UUID, name string) (s btrfs.Subvolume, err error) {
	err = d.host.call(ctx, verbTake, takeCall{d.name(), source, uuid, name}, &s)
	return s, err
}

func (d *agentDir) Delete(ctx context.Context, names []string, o DeleteOptions) ([]string, error) {
	var reply deleteReply
	err := d.host.call(ctx, verbDelete, deleteCall{d.name(), names, o}, &reply)
	if err == nil && reply.Failure != nil {
		err = fromWire(reply.Failure)
	}
	return reply.Deleted, err
}

func (d *agentDir) WriteLedger(ctx context.Context, content []byte) error {
	return d.host.call(ctx, verbLedger, ledgerCall{d.name(), content}, nil)
}

func (d *agentDir) Link(ctx context.Context, name, target string) error {
	return d.host.call(ctx, verbLink, linkCall{d.name(), name, target}, nil)
}

func (d *agentDir) Sync(ctx context.Context) error { return d.host.call(ctx, verbSync, d.name(), nil) }

func (d *agentDir) Measure(ctx context.Context, o SendOrder) (bytes int64, err error) {
	err = d.host.call(ctx, verbMeasure, sendCall{Dir: d.name(), Order: o}, &bytes)
	return bytes, err
}

// agentLock is a lock that the agent holds. It is taken again after a reconnection, since it ended with the connection.
type agentLock struct {
	dir  *agentDir
	conn *wire.Conn // that holds it
	id   uint64
}

func (d *agentDir) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	l := &agentLock{dir: d}
	if err := l.acquire(ctx, waiting); err != nil {
		return nil, err
	}
	d.host.mu.Lock()
	d.host.locks = append(d.host.locks, l)
	d.host.mu.Unlock()
	return l.release, nil
}

func (l *agentLock) acquire(ctx context.Context, waiting func(*lock.HeldError)) error {
	conn, err := l.dir.host.connect(ctx)
	if err != nil {
		return err
	}
	var id uint64
	err = fromWire(conn.Call(ctx, verbLock, lockCall{l.dir.name(), waiting != nil}, &id, func(n wire.Raw) {
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

func (l *agentLock) release() error {
	a := l.dir.host
	a.mu.Lock()
	a.locks = slices.DeleteFunc(a.locks, func(other *agentLock) bool { return other == l })
	conn, id := l.conn, l.id
	a.mu.Unlock()
	if conn.Err() != nil {
		return nil // it ended with the connection
	}
	return fromWire(conn.Call(context.Background(), verbUnlock, id, nil, nil))
}

func (a *Agent) locksOn(d *agentDir) []*agentLock {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.locks), func(l *agentLock) bool { return l.dir != d })
}

// relock takes the locks that ended with an older connection.
func (a *Agent) relock(ctx context.Context) error {
	a.relocking.Lock()
	defer a.relocking.Unlock()
	a.mu.Lock()
	locks := slices.DeleteFunc(slices.Clone(a.locks), func(l *agentLock) bool { return l.conn == a.conn })
	a.mu.Unlock()
	for _, l := range locks {
		waiting := func(held *lock.HeldError) {
			a.o.Log.Info(fmt.Sprintf("%s: waiting for %s", l.dir.status.Path, held.Holder()))
		}
		if err := l.acquire(ctx, waiting); err != nil {
			return err
		}
	}
	return nil
}
