// Package ssh runs command lines on other machines, by a client of its own or by an ssh program, configured as OpenSSH is.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// Options are how a machine is reached.
type Options struct {
	// Options are KEY=VALUE as for ssh -o. They override the configuration.
	Options []string
	// ConfigFile is read in place of the user's and the system's configuration, if it is not "".
	ConfigFile string
	// Program is an ssh program that is run in place of the built-in client. "" leaves that to the configuration.
	Program string
	Log     *slog.Logger
	// Level is what the lines that commands write to their standard error are logged at.
	Level slog.Level
	// Ask asks the user at the terminal, one question at a time; an answer to a secret one is not shown. It is nil if there
	// is nobody to ask.
	Ask func(ctx context.Context, question string, secret bool) (string, error)
}

// Machine is a machine that is reached by SSH. It may be used concurrently.
//
// All sessions share a connection, which is made for the first one, and again when it broke. Where sshd refuses further
// sessions on it (MaxSessions), more connections are made.
type Machine struct {
	target  Target
	options Options
	local   transport.Local
	log     *slog.Logger

	resolving chan struct{} // held while the configuration is looked up

	mu      sync.Mutex
	config  *configuration // nil: not looked up yet
	conns   []*connection  // those that stand
	attempt *connecting    // to connect, under way; nil: none
	closed  bool

	secrets secrets
}

// A connecting is an attempt to connect, made by one caller for all who wait.
type connecting struct {
	done chan struct{}
	err  error // after done
	left bool  // after done: the caller gave up, so that the error says nothing to the others
}

// New makes an SSH that is not connected yet.
func New(t Target, o Options) *Machine {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Machine{target: t, options: o, log: o.Log, local: transport.Local{Log: o.Log, Level: slog.LevelDebug},
		resolving: make(chan struct{}, 1)}
}

// String names the machine as its user did.
func (m *Machine) String() string { return m.target.String() }

// Session starts a command line in the login shell of the machine, connecting when needed. It ends with ctx. The error is
// transport.ErrUnreachable where that applies, and may have a method Hint that tells the way forward. Where an ssh program is run, that
// connects while the session runs, and Wait gives such an error.
func (m *Machine) Session(ctx context.Context, line string) (*transport.Session, error) {
	return m.HeardSession(ctx, line, nil)
}

// HeardSession is Session, and tells said each line that the command writes to its standard error before Wait returns.
func (m *Machine) HeardSession(ctx context.Context, line string, said func(line string)) (*transport.Session, error) {
	return m.open(ctx, func(config *configuration) (*transport.Session, error) {
		slot, err := m.slot(ctx, config)
		if err != nil {
			return nil, err
		}
		return slot.start(ctx, line, m.options.Level, said)
	}, func(config *configuration) (*transport.Session, error) {
		return m.startProgram(ctx, config, line, said)
	})
}

// open lets the built-in client do what it can, and the ssh program what is beyond that.
func (m *Machine) open(ctx context.Context, builtIn, byProgram func(*configuration) (*transport.Session, error)) (*transport.Session, error) {
	config, err := m.resolve(ctx)
	if err != nil {
		return nil, err
	}
	if config.program != "" {
		return byProgram(config)
	}
	session, err := builtIn(config)
	var beyond *beyondError
	if !errors.As(err, &beyond) {
		return session, err
	}
	if config = m.switchToProgram(beyond); config == nil {
		return nil, err
	}
	return byProgram(config)
}

// switchToProgram decides for the ssh program from now on, if it is installed.
func (m *Machine) switchToProgram(beyond *beyondError) *configuration {
	if _, err := exec.LookPath("ssh"); err != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.config.program == "" {
		m.log.Info(fmt.Sprintf("%s: running the ssh program: %s", m, beyond.why))
		config := *m.config
		config.program, config.why = "ssh", beyond.why
		m.config = &config
	}
	return m.config
}

// slot opens a session on a connection that takes one, else on a new one.
func (m *Machine) slot(ctx context.Context, config *configuration) (*idleSession, error) {
	for {
		conn, attempt, mine, err := m.next(false)
		switch {
		case err != nil:
			return nil, err
		case conn != nil:
			slot, err := conn.open(ctx)
			if err == nil {
				return slot, nil
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("opening a session on %s: %w", m, err)
			}
			m.log.Debug(fmt.Sprintf("%s: another connection is needed: %v", m, err))
		case mine:
			var slot *idleSession
			_, err := m.connect(ctx, config, attempt, func(c *connection) (err error) {
				slot, err = c.open(ctx)
				return err
			})
			return slot, err
		default:
			if err := m.await(ctx, attempt); err != nil {
				return nil, err
			}
		}
	}
}

// await waits until there may be a connection. The error is that of making one, or the context's.
func (m *Machine) await(ctx context.Context, attempt *connecting) error {
	select {
	case <-attempt.done:
		if attempt.err != nil && !attempt.left {
			return attempt.err
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connecting to %s: %w", m, context.Cause(ctx))
	}
}

// next gives a connection that may take a session, or any if full ones will do, else the attempt to make one, and whether
// the caller is to make it.
func (m *Machine) next(full bool) (conn *connection, attempt *connecting, mine bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, false, fmt.Errorf("connecting to %s: %w", m, errClosed)
	}
	m.conns = slices.DeleteFunc(m.conns, (*connection).isGone)
	for _, c := range m.conns {
		if full || !c.full.Load() {
			return c, nil, false, nil
		}
	}
	if m.attempt != nil {
		return nil, m.attempt, false, nil
	}
	m.attempt = &connecting{done: make(chan struct{})}
	return nil, m.attempt, true, nil
}

var errClosed = errors.New("it is closed")

// connect makes a connection and uses it first. Others get to know the connection only then, so that a refusal of that use is
// one of the server.
func (m *Machine) connect(ctx context.Context, config *configuration, attempt *connecting, first func(*connection) error) (*connection, error) {
	conn, err := m.dial(ctx, config)
	if err == nil {
		if err = first(conn); err != nil {
			conn.close(err)
			err = fmt.Errorf("opening a session on %s: %w", m, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempt = nil
	attempt.err, attempt.left = err, ctx.Err() != nil
	close(attempt.done)
	if err != nil {
		return nil, err
	}
	if m.closed {
		conn.close(errClosed)
		return nil, fmt.Errorf("connecting to %s: %w", m, errClosed)
	}
	m.conns = append(m.conns, conn)
	return conn, nil
}

// Close breaks all connections and with them the sessions that still run.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, c := range m.conns {
		c.close(errClosed)
	}
	m.conns = nil
	return nil
}
