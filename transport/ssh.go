package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
)

// SSHOptions are how a machine is reached.
type SSHOptions struct {
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

// SSH is a machine that is reached by SSH. It may be used concurrently.
//
// All sessions share a connection, which is made for the first one, and again when it broke. Where sshd refuses further
// sessions on it (MaxSessions), more connections are made.
type SSH struct {
	target  Target
	options SSHOptions
	local   Local
	log     *slog.Logger

	resolving chan struct{} // held while the configuration is looked up

	mu      sync.Mutex
	config  *sshConfig  // nil: not looked up yet
	conns   []*sshConn  // those that stand
	attempt *sshAttempt // to connect, under way; nil: none
	closed  bool

	secrets secrets
}

// An sshAttempt to connect is made by one caller for all who wait.
type sshAttempt struct {
	done chan struct{}
	err  error // after done
	left bool  // after done: the caller gave up, so that the error says nothing to the others
}

// NewSSH makes an SSH that is not connected yet.
func NewSSH(t Target, o SSHOptions) *SSH {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &SSH{target: t, options: o, log: o.Log, local: Local{Log: o.Log, Level: slog.LevelDebug},
		resolving: make(chan struct{}, 1)}
}

// String names the machine as its user did.
func (s *SSH) String() string { return s.target.String() }

// Session starts a command line in the login shell of the machine, connecting when needed. It ends with ctx. The error is
// ErrUnreachable where that applies, and may have a method Hint that tells the way forward. Where an ssh program is run, that
// connects while the session runs, and Wait gives such an error.
func (s *SSH) Session(ctx context.Context, line string) (*Session, error) {
	return s.HeardSession(ctx, line, nil)
}

// HeardSession is Session, and tells said each line that the command writes to its standard error before Wait returns.
func (s *SSH) HeardSession(ctx context.Context, line string, said func(line string)) (*Session, error) {
	return s.open(ctx, func(config *sshConfig) (*Session, error) {
		slot, err := s.slot(ctx, config)
		if err != nil {
			return nil, err
		}
		return slot.start(ctx, line, s.options.Level, said)
	}, func(config *sshConfig) (*Session, error) { return s.startProgram(ctx, config, line, said) })
}

// open lets the built-in client do what it can, and the ssh program what is beyond that.
func (s *SSH) open(ctx context.Context, builtIn, byProgram func(*sshConfig) (*Session, error)) (*Session, error) {
	config, err := s.resolve(ctx)
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
	if config = s.switchToProgram(beyond); config == nil {
		return nil, err
	}
	return byProgram(config)
}

// switchToProgram decides for the ssh program from now on, if it is installed.
func (s *SSH) switchToProgram(beyond *beyondError) *sshConfig {
	if _, err := exec.LookPath("ssh"); err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config.program == "" {
		s.log.Info(fmt.Sprintf("%s: running the ssh program: %s", s, beyond.why))
		config := *s.config
		config.program, config.why = "ssh", beyond.why
		s.config = &config
	}
	return s.config
}

// slot opens a session on a connection that takes one, else on a new one.
func (s *SSH) slot(ctx context.Context, config *sshConfig) (*sshSlot, error) {
	for {
		conn, attempt, mine, err := s.next(false)
		switch {
		case err != nil:
			return nil, err
		case conn != nil:
			slot, err := conn.open(ctx)
			if err == nil {
				return slot, nil
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("opening a session on %s: %w", s, err)
			}
			s.log.Debug(fmt.Sprintf("%s: another connection is needed: %v", s, err))
		case mine:
			var slot *sshSlot
			_, err := s.connect(ctx, config, attempt, func(c *sshConn) (err error) {
				slot, err = c.open(ctx)
				return err
			})
			return slot, err
		default:
			if err := s.await(ctx, attempt); err != nil {
				return nil, err
			}
		}
	}
}

// await waits until there may be a connection. The error is that of making one, or the context's.
func (s *SSH) await(ctx context.Context, attempt *sshAttempt) error {
	select {
	case <-attempt.done:
		if attempt.err != nil && !attempt.left {
			return attempt.err
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connecting to %s: %w", s, context.Cause(ctx))
	}
}

// next gives a connection that may take a session, or any if full ones will do, else the attempt to make one, and whether
// the caller is to make it.
func (s *SSH) next(full bool) (conn *sshConn, attempt *sshAttempt, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, false, fmt.Errorf("connecting to %s: %w", s, errClosed)
	}
	s.conns = slices.DeleteFunc(s.conns, (*sshConn).isGone)
	for _, c := range s.conns {
		if full || !c.full.Load() {
			return c, nil, false, nil
		}
	}
	if s.attempt != nil {
		return nil, s.attempt, false, nil
	}
	s.attempt = &sshAttempt{done: make(chan struct{})}
	return nil, s.attempt, true, nil
}

var errClosed = errors.New("it is closed")

// connect makes a connection and uses it first. Others get to know the connection only then, so that a refusal of that use is
// one of the server.
func (s *SSH) connect(ctx context.Context, config *sshConfig, attempt *sshAttempt, first func(*sshConn) error) (*sshConn, error) {
	conn, err := s.dial(ctx, config)
	if err == nil {
		if err = first(conn); err != nil {
			conn.close(err)
			err = fmt.Errorf("opening a session on %s: %w", s, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempt = nil
	attempt.err, attempt.left = err, ctx.Err() != nil
	close(attempt.done)
	if err != nil {
		return nil, err
	}
	if s.closed {
		conn.close(errClosed)
		return nil, fmt.Errorf("connecting to %s: %w", s, errClosed)
	}
	s.conns = append(s.conns, conn)
	return conn, nil
}

// Close breaks all connections and with them the sessions that still run.
func (s *SSH) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.conns {
		c.close(errClosed)
	}
	s.conns = nil
	return nil
}
