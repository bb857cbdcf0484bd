package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/crypto/ssh"
)

// Dial connects to an address, HOST:PORT, as the machine reaches it. That takes no session, and so an account without a shell
// will do. The session's streams are those of the connection: closing Stdin shuts down one direction, and Wait waits for the
// far end to close the other. Errors are as those of Session.
func (m *Machine) Dial(ctx context.Context, address string) (*transport.Session, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("connecting by way of %s: %w", m, err)
	}
	return m.open(ctx, func(config *configuration) (*transport.Session, error) {
		return m.forward(ctx, config, address)
	}, func(config *configuration) (*transport.Session, error) {
		argv := append(m.programArgv(config), "-W", address, "--", m.target.Host)
		return m.runProgram(ctx, config, transport.Command{Argv: argv, Name: "ssh -W " + address}, func(err error, stood bool) error {
			return config.classifyForward(address, err, stood)
		})
	})
}

// forward opens a connection from the machine.
func (m *Machine) forward(ctx context.Context, config *configuration, address string) (*transport.Session, error) {
	const attempts = 2 // a connection may have broken unnoticed
	for attempt := 1; ; attempt++ {
		conn, err := m.connection(ctx, config)
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
			return nil, fmt.Errorf("connecting to %s by way of %s: %w", address, m, context.Cause(ctx))
		case attempt == attempts:
			return nil, fmt.Errorf("connecting to %s by way of %s: %w", address, m, conn.orLost(io.EOF))
		}
	}
}

// connection gives one that stands, whether it takes sessions or not, else a new one.
func (m *Machine) connection(ctx context.Context, config *configuration) (*connection, error) {
	for {
		conn, attempt, mine, err := m.next(true)
		switch {
		case err != nil || conn != nil:
			return conn, err
		case mine:
			return m.connect(ctx, config, attempt, func(*connection) error { return nil })
		}
		if err := m.await(ctx, attempt); err != nil {
			return nil, err
		}
	}
}

// forwardRefused is the error of a machine that did not connect.
func (c *configuration) forwardRefused(address string, prohibited bool, cause error) error {
	e := &failure{text: fmt.Sprintf("connecting to %s by way of %s", address, c.target), cause: cause}
	if prohibited {
		e.hint = fmt.Sprintf("sshd_config on %s needs AllowTcpForwarding, and the key no option that forbids it", c.target)
	} else {
		e.kind, e.hint = transport.ErrUnreachable, fmt.Sprintf("does a program listen on %s, as %s sees it?", address, c.target)
	}
	return e
}

// classifyForward is classify for an ssh program that forwards its standard streams. It tells the refusal in the words of
// OpenSSH's channels.c, channel_input_open_failure.
func (c *configuration) classifyForward(address string, err error, stood bool) error {
	var exit *transport.ExitError
	if errors.As(err, &exit) && strings.Contains(exit.Stderr, "open failed: ") {
		prohibited := strings.Contains(exit.Stderr, "administratively prohibited")
		return c.forwardRefused(address, prohibited, errors.New(exit.Stderr))
	}
	return c.classify(err, stood)
}

// A forwarding is a connection that the machine forwards.
type forwarding struct {
	net.Conn
	conn *connection
	name string
	ctx  context.Context // ends when the connection is to end
	once sync.Once
	done chan struct{} // the far end has closed it
}

func (c *connection) forward(ctx context.Context, address string) (*transport.Session, error) {
	channel, err := opened(ctx, c, func() (net.Conn, error) { return c.client.Dial("tcp", address) }, c.notForwarded, c.forwarded)
	if err != nil {
		return nil, err
	}
	c.log.Debug("connected to " + address + " by way of " + c.name)
	f := &forwarding{Conn: channel, conn: c, name: "the connection to " + address + " by way of " + c.name, done: make(chan struct{})}
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
	return transport.NewSession(forwardInput{channel}, f, wait, cancel), nil
}

func (c *connection) notForwarded(err error) {
	c.forwarded()
	var refusal *ssh.OpenChannelError
	if !errors.As(err, &refusal) {
		c.close(err)
	}
}

// forwarded takes note that a forwarded connection ended.
func (c *connection) forwarded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels--
}

// forwardInput is what the far end reads.
type forwardInput struct{ net.Conn }

func (i forwardInput) Close() error { return i.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func (f *forwarding) Read(p []byte) (int, error) {
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
func (f *forwarding) end() {
	go func() { _, _ = io.Copy(io.Discard, f) }() // until the end, which is all that matters
	f.conn.end(f.Conn, f.done, f.name)
}

// verdict tells whether the connection ended because that to the machine did: the streams of both end alike.
func (f *forwarding) verdict() error {
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
