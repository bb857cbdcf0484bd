package ssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/crypto/ssh"
)

const (
	killCheck = 5 * time.Second  // between looks whether a killed session has ended
	killGrace = 30 * time.Second // for it to end, if its connection has other sessions
)

// An idleSession is an open session that runs nothing yet.
type idleSession struct {
	conn    *connection
	session *ssh.Session
}

// open opens a session. If sshd refuses it, the connection is full, or useless if it has no other.
func (c *connection) open(ctx context.Context) (*idleSession, error) {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	session, err := opened(ctx, c, c.client.NewSession, func(err error) { c.refused(err, ended) }, c.release)
	if err != nil {
		return nil, err
	}
	return &idleSession{c, session}, nil
}

// opened opens a channel of any kind, and counts it. It ends with the context and the connection; what comes later is closed.
// After a refusal, or what came late, the channel is for refused or late to uncount.
func opened[T io.Closer](ctx context.Context, c *connection, open func() (T, error), refused func(error), late func()) (T, error) {
	c.mu.Lock()
	c.channels++
	c.mu.Unlock()
	type result struct {
		channel T
		err     error
	}
	done := make(chan result, 1)
	go func() {
		channel, err := open()
		done <- result{channel, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			refused(r.err)
		}
		return r.channel, r.err
	case <-ctx.Done():
	case <-c.gone: // the library, if it began just after the channels were closed, waits for ever
	}
	go func() {
		r := <-done
		if r.err == nil {
			_ = r.channel.Close() // nobody wants it
		}
		late()
	}()
	var none T
	return none, cmp.Or(context.Cause(ctx), errGone)
}

var errGone = errors.New("the connection ended")

func (c *connection) refused(err error, ended int) {
	c.mu.Lock()
	c.channels--
	useless := c.channels == 0
	if c.ended == ended {
		c.full.Store(true)
	}
	c.mu.Unlock()
	var refusal *ssh.OpenChannelError
	if useless || !errors.As(err, &refusal) {
		c.close(err)
	}
}

// isAlone tells that no more than one channel is open.
func (c *connection) isAlone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.channels <= 1
}

// release takes note that a session ended.
func (c *connection) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels--
	c.ended++
	c.full.Store(false)
}

// A runningSession is a session that runs a line.
type runningSession struct {
	conn    *connection
	session *ssh.Session
	stderr  *transport.Stderr
	ctx     context.Context // ends when the session is to end
	done    chan struct{}   // the end of the session
	err     error           // after done
	killed  bool            // after done: because ctx ended
}

// start runs a line in the session.
func (s *idleSession) start(ctx context.Context, line string, level slog.Level, said func(line string)) (*transport.Session, error) {
	run := &runningSession{conn: s.conn, session: s.session, done: make(chan struct{}),
		stderr: transport.NewStderr(s.conn.log, level, lineName(line), said)}
	s.session.Stderr = run.stderr
	stdin, inErr := s.session.StdinPipe()
	stdout, outErr := s.session.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, err
	}
	s.conn.log.Debug("running on " + s.conn.name + ": " + firstPart(line))
	var cancel context.CancelFunc
	run.ctx, cancel = context.WithCancel(ctx)
	unwatch := context.AfterFunc(run.ctx, func() { s.conn.end(s.session, run.done, run.stderr.Program) })
	started := make(chan error, 1)
	go func() {
		err := s.session.Start(line)
		started <- err
		if err == nil {
			run.err = s.session.Wait()
			run.killed = !unwatch()
		}
		_ = s.session.Close() // it is closed, unless it did not start
		s.conn.release()
		close(run.done)
	}()
	var err error
	select {
	case err = <-started:
	case <-run.ctx.Done():
		err = context.Cause(run.ctx)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("starting %s on %s: %w", run.stderr.Program, s.conn.name, s.conn.orLost(err))
	}
	wait := sync.OnceValue(func() error {
		<-run.done
		cause := context.Cause(run.ctx)
		cancel()
		run.stderr.Flush()
		return run.verdict(cause)
	})
	return transport.NewSession(stdin, stdout, wait, cancel), nil
}

func (r *runningSession) verdict(cause error) error {
	var exit *ssh.ExitError
	switch {
	case r.killed: // a success too may come from the end of its input
		return fmt.Errorf("%s on %s stopped: %w", r.stderr.Program, r.conn.name, cause)
	case r.err == nil:
		return nil
	case !errors.As(r.err, &exit):
		return fmt.Errorf("%s on %s: %w", r.stderr.Program, r.conn.name, r.conn.orLost(r.err))
	case exit.Signal() != "":
		return &transport.ExitError{Program: r.stderr.Program, State: "signal: " + exit.Signal(), Status: -1, Stderr: r.stderr.Tail()}
	default:
		return &transport.ExitError{Program: r.stderr.Program, State: fmt.Sprintf("exit status %d", exit.ExitStatus()), Status: exit.ExitStatus(), Stderr: r.stderr.Tail()}
	}
}

// end ends a channel without waiting for the peer. What the peer said before must be read until done.
//
// The local half of a channel cannot be closed alone, and sshd keeps a channel open while its command neither ends nor uses
// its streams. Then only the end of the connection ends reads and writes here: at once where the peer is silent or no other
// session has the connection, and after a while also where others do.
func (c *connection) end(channel io.Closer, done <-chan struct{}, what string) {
	since := time.Now()
	go func() { // sending blocks when the peer does not read
		_ = channel.Close()
		_ = c.probeOnce()
	}()
	for {
		select {
		case <-done:
			return
		case <-time.After(killCheck):
		}
		passed := time.Since(since)
		if c.heard.silence() >= passed || c.isAlone() || passed > killGrace {
			c.close(errors.New(what + " was stopped and does not end"))
			return
		}
	}
}

// lineName is the name of the program that a line begins with.
func lineName(line string) string {
	words := strings.Fields(line)
	if len(words) == 0 {
		return "the login shell"
	}
	return transport.ProgramName(words)
}

// firstPart is as much of a command line as a log needs.
func firstPart(line string) string {
	const enough = 200
	if len(line) <= enough {
		return line
	}
	return line[:enough] + " ..."
}
