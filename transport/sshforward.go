package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Dial connects to an address, HOST:PORT, as the machine reaches it. That takes no session, and so an account without a shell
// will do. The session's streams are those of the connection: closing Stdin shuts down one direction, and Wait waits for the
// far end to close the other. Errors are as those of Session.
func (s *SSH) Dial(ctx context.Context, address string) (*Session, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("connecting by way of %s: %w", s, err)
	}
	return s.open(ctx, func(config *sshConfig) (*Session, error) {
		return s.forward(ctx, config, address)
	}, func(config *sshConfig) (*Session, error) {
		argv := append(s.programArgv(config), "-W", address, "--", s.target.Host)
		return s.runProgram(ctx, config, Command{Argv: argv, Name: "ssh -W " + address}, func(err error, stood bool) error {
			return config.classifyForward(address, err, stood)
		})
	})
}

// forward opens a connection from the machine.
func (s *SSH) forward(ctx context.Context, config *sshConfig, address string) (*Session, error) {
	const attempts = 2 // a connection may have broken unnoticed
	for attempt := 1; ; attempt++ {
		conn, err := s.connection(ctx, config)
		if err != nil {
			return nil, err
		}
		session, err := conn.forward(ctx, address)
		var refusal *ssh.OpenChannelError
		switch {
		case err == nil:
			return session, nil
		case errors.As(err, &refusal):
			return nil, config.forwardRefused(address, refusal.Reason == ssh.Prohibited, err)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("connecting to %s by way of %s: %w", address, s, context.Cause(ctx))
		case attempt == attempts:
			return nil, fmt.Errorf("connecting to %s by way of %s: %w", address, s, conn.orLost(io.EOF))
		}
	}
}

// connection gives one that stands, whether it takes sessions or not, else a new one.
func (s *SSH) connection(ctx context.Context, config *sshConfig) (*sshConn, error) {
	for {
		conn, attempt, mine, err := s.next(true)
		switch {
		case err != nil || conn != nil:
			return conn, err
		case mine:
			return s.connect(ctx, config, attempt, func(*sshConn) error { return nil })
		}
		if err := s.await(ctx, attempt); err != nil {
			return nil, err
		}
	}
}

// forwardRefused is the error of a machine that did not connect.
func (c *sshConfig) forwardRefused(address string, prohibited bool, cause error) error {
	e := &sshError{text: fmt.Sprintf("connecting to %s by way of %s", address, c.target), cause: cause}
	if prohibited {
		e.hint = fmt.Sprintf("sshd_config on %s needs AllowTcpForwarding, and the key no option that forbids it", c.target)
	} else {
		e.kind, e.hint = ErrUnreachable, fmt.Sprintf("does a program listen on %s, as %s sees it?", address, c.target)
	}
	return e
}

// classifyForward is classify for an ssh program that forwards its standard streams. It tells the refusal in the words of
// OpenSSH's channels.c, channel_input_open_failure.
func (c *sshConfig) classifyForward(address string, err error, stood bool) error {
	var exit *ExitError
	if errors.As(err, &exit) && strings.Contains(exit.Stderr, "open failed: ") {
		prohibited := strings.Contains(exit.Stderr, "administratively prohibited")
		return c.forwardRefused(address, prohibited, errors.New(exit.Stderr))
	}
	return c.classify(err, stood)
}

// An sshForward is a connection that the machine forwards.
type sshForward struct {
	net.Conn
	conn *sshConn
	name string
	ctx  context.Context // ends when the connection is to end
	once sync.Once
	done chan struct{} // the far end has closed it
}

func (c *sshConn) forward(ctx context.Context, address string) (*Session, error) {
	channel, err := opened(ctx, c, func() (net.Conn, error) { return c.client.Dial("tcp", address) }, c.notForwarded, c.forwarded)
	if err != nil {
		return nil, err
	}
	c.log.Debug("connected to " + address + " by way of " + c.name)
	f := &sshForward{Conn: channel, conn: c, name: "the connection to " + address + " by way of " + c.name, done: make(chan struct{})}
	var cancel context.CancelFunc
	f.ctx, cancel = context.WithCancel(ctx)
	unwatch := context.AfterFunc(f.ctx, f.end)
	wait := sync.OnceValue(func() error {
		<-f.done
		killed, cause := !unwatch(), context.Cause(f.ctx)
		defer cancel()
		if killed {
			return fmt.Errorf("%s stopped: %w", f.name, cause)
		}
		return f.verdict()
	})
	return &Session{Stdin: forwardInput{channel}, Stdout: f, wait: wait, kill: cancel}, nil
}

func (c *sshConn) notForwarded(err error) {
	c.forwarded()
	var refusal *ssh.OpenChannelError
	if !errors.As(err, &refusal) {
		c.close(err)
	}
}

// forwarded takes note that a forwarded connection ended.
func (c *sshConn) forwarded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels--
}

// forwardInput is what the far end reads.
type forwardInput struct{ net.Conn }

func (i forwardInput) Close() error { return i.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func (f *sshForward) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if err != nil {
		f.once.Do(func() {
			f.conn.forwarded()
			close(f.done)
		})
	}
	return n, err
}

// end ends the connection before the far end has closed it.
func (f *sshForward) end() {
	go func() { _, _ = io.Copy(io.Discard, f) }() // until the end, which is all that matters
	f.conn.end(f.Conn, f.done, f.name)
}

// verdict tells whether the connection ended because that to the machine did: the streams of both end alike.
func (f *sshForward) verdict() error {
	answered := make(chan error, 1)
	go func() {
		_ = f.Close() // of this side
		answered <- f.conn.probeOnce()
	}()
	select {
	case err := <-answered:
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", f.name, f.conn.orLost(io.EOF))
	case <-f.ctx.Done():
		return fmt.Errorf("%s stopped: %w", f.name, context.Cause(f.ctx))
	}
}
