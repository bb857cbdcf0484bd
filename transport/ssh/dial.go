package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/crypto/ssh"
)

// loginTimeout is how long a server, or the user's agent, may take to let the user in. It does not run while the user is asked.
const loginTimeout = time.Minute

// dial connects to a machine, by way of its jump hosts.
func (m *Machine) dial(ctx context.Context, config *configuration) (conn *connection, err error) {
	var hops []*configuration // in the order of the way
	for hop := config; hop != nil; hop = hop.jump {
		hops = append([]*configuration{hop}, hops...)
	}
	tcp, err := hops[0].dialTCP(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	defer func() {
		stop()
		if err != nil {
			tcp.Close()
		}
		if err != nil && ctx.Err() != nil {
			conn, err = nil, fmt.Errorf("connecting to %s: %w", m, context.Cause(ctx))
		}
	}()
	for through := net.Conn(tcp); ; {
		hop := hops[0]
		clock := &stepClock{conn: tcp}
		heard := newHeardConn(through)
		client, err := m.handshake(ctx, hop, heard, clock)
		if err == nil && len(hops) == 1 {
			conn := &connection{name: m.String(), log: m.log, client: client, heard: heard, tcp: tcp, gone: make(chan struct{})}
			go conn.watch(config.aliveInterval, config.aliveCount)
			return conn, nil
		}
		if err == nil {
			hops = hops[1:]
			through, err = hop.forward(client, hops[0], clock)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (c *configuration) address() string { return net.JoinHostPort(c.hostName, strconv.Itoa(c.port)) }

func (c *configuration) dialTCP(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: c.connectTimeout}
	if ip := net.ParseIP(c.settings.get("bindaddress")); ip != nil {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	conn, err := d.DialContext(ctx, c.network, c.address())
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("connecting to %s: %w", c.target, context.Cause(ctx))
	}
	return nil, c.unreachable(err)
}

// forward opens a connection from a jump host to the next machine.
func (c *configuration) forward(client *ssh.Client, next *configuration, clock *stepClock) (net.Conn, error) {
	clock.start(next.connectTimeout)
	defer clock.stop()
	conn, err := client.Dial("tcp", next.address())
	var refusal *ssh.OpenChannelError
	switch {
	case err == nil:
		return conn, nil
	case clock.hasExpired():
		return nil, next.unreachable(fmt.Errorf("no answer within %s, by way of %s", next.connectTimeout, c.target))
	case errors.As(err, &refusal) && refusal.Reason == ssh.Prohibited:
		return nil, &failure{text: fmt.Sprintf("connecting to %s: %s does not forward connections", next.target, c.target), cause: err,
			hint: "sshd_config on " + c.target.String() + " needs AllowTcpForwarding"}
	default:
		return nil, next.unreachable(fmt.Errorf("by way of %s: %w", c.target, err))
	}
}

// handshake makes an SSH connection over one to a machine's sshd. Whoever called closes that if it fails.
func (m *Machine) handshake(ctx context.Context, config *configuration, over net.Conn, clock *stepClock) (*ssh.Client, error) {
	db, err := config.hostKeys()
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.target, err)
	}
	ask := clock.whilePaused(m.options.Ask)
	login := &login{ctx: ctx, config: config, secrets: &m.secrets, ask: ask}
	defer login.close()
	hostKey := &shownKey{check: hostKeyCheck{config, db, ask}}
	can := config.algorithms()
	client := &ssh.ClientConfig{
		Config:            ssh.Config{Ciphers: can.Ciphers, KeyExchanges: can.KeyExchanges, MACs: can.MACs},
		User:              config.user,
		Auth:              login.methods(),
		HostKeyAlgorithms: config.hostKeyAlgorithms(db),
		HostKeyCallback: func(_ string, remote net.Addr, key ssh.PublicKey) error {
			return hostKey.shown(ctx, remote, key, clock)
		},
		BannerCallback: func(text string) error {
			m.log.Debug(fmt.Sprintf("%s: %s", config.target, strings.TrimSpace(text)))
			return nil
		},
		AuthCallback: func(a *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			login.accepted = a.AllowedMethods
			return nil, nil // in the order of Auth
		},
	}
	clock.start(config.connectTimeout)
	conn, channels, requests, err := ssh.NewClientConn(over, config.address(), client)
	clock.stop()
	if err == nil {
		return ssh.NewClient(conn, channels, requests), nil
	}
	switch {
	case hostKey.err != nil:
		return nil, fmt.Errorf("connecting to %s: %w", config.target, hostKey.err)
	case clock.hasExpired():
		return nil, config.unreachable(fmt.Errorf("its sshd on port %d does not go on with the handshake", config.port))
	default:
		return nil, login.explain(err)
	}
}

// A shownKey is the host key of a connection. Keys are exchanged again from time to time; then the server must show the same
// one, and nobody is asked.
type shownKey struct {
	check    hostKeyCheck
	accepted ssh.PublicKey
	err      error
}

func (k *shownKey) shown(ctx context.Context, remote net.Addr, key ssh.PublicKey, clock *stepClock) error {
	if k.accepted != nil {
		if sameKey(key, k.accepted) {
			return nil
		}
		return k.check.refuse(key, "is not the one that the connection began with, "+fingerprint(k.accepted), "")
	}
	if k.err = k.check.check(ctx, remote, key); k.err == nil {
		k.accepted = key
		clock.start(loginTimeout)
	}
	return k.err
}

// explain tells why a handshake failed, after the host key was accepted or before it was shown.
func (l *login) explain(err error) error {
	c := l.config
	var algorithms *ssh.AlgorithmNegotiationError
	var network net.Error
	switch {
	case errors.As(err, &algorithms):
		return &beyondError{why: fmt.Sprintf("%s has no %s in common with the built-in client", c.target, algorithms.What),
			err: fmt.Errorf("connecting to %s: %w", c.target, err)}
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.As(err, &network):
		return &failure{text: "connecting to " + c.target.String() + ": the connection was closed during the handshake", cause: err,
			kind: transport.ErrUnreachable, hint: fmt.Sprintf("is it sshd that listens on port %d? "+
				"It may take no more connections (MaxStartups), or bar this machine", c.port)}
	case l.accepted == nil:
		return &failure{text: "connecting to " + c.target.String(), cause: err,
			hint: fmt.Sprintf("is it sshd that listens on port %d?", c.port)}
	}
	l.failed()
	refused := l.refused(err)
	if len(l.foreign) > 0 {
		return &beyondError{why: fmt.Sprintf("only it can use %s", strings.Join(l.foreign, ", ")), err: refused}
	}
	for _, method := range l.accepted {
		if c.settings.is("gssapiauthentication", false) && method == "gssapi-with-mic" {
			return &beyondError{why: c.target.String() + " may take GSSAPIAuthentication", err: refused}
		}
	}
	return refused
}

// A beyondError is one that the ssh program may not have.
type beyondError struct {
	why string
	err error
}

func (e *beyondError) Error() string { return e.err.Error() }
func (e *beyondError) Unwrap() error { return e.err }

// unreachable makes the error of a machine whose sshd does not answer.
func (c *configuration) unreachable(cause error) error {
	var name *net.DNSError
	var hint string
	text := cause.Error()
	switch {
	case errors.As(cause, &name) && name.IsNotFound:
		hint = "is the name right? See what " + transport.Quote("getent", "hosts", c.hostName) + " tells"
	case strings.Contains(text, "refused"):
		hint = fmt.Sprintf("is sshd running there, on port %d?", c.port)
	case strings.Contains(text, "no answer"), strings.Contains(text, "timeout"), strings.Contains(text, "handshake"):
		hint = "is the machine up, and does no firewall drop the connection?"
	default:
		hint = "is the machine up, and the network to it?"
	}
	return &failure{text: "connecting to " + c.target.String(), cause: cause, kind: transport.ErrUnreachable, hint: hint}
}

// A stepClock breaks a connection when a step of making it takes too long.
type stepClock struct {
	conn io.Closer

	mu      sync.Mutex
	limit   time.Duration // of the step under way; 0: none
	timer   *time.Timer
	expired bool
}

// start begins a step, which ends the one before.
func (c *stepClock) start(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.limit = limit
	if limit > 0 {
		c.timer = time.AfterFunc(limit, c.expire)
	}
}

func (c *stepClock) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = true
	_ = c.conn.Close() // that is what ends the step
}

func (c *stepClock) stop() { c.start(0) }

func (c *stepClock) hasExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expired
}

// whilePaused gives ask without a limit to the user's time; the step then begins anew.
func (c *stepClock) whilePaused(ask asker) asker {
	if ask == nil {
		return nil
	}
	return func(ctx context.Context, question string, secret bool) (string, error) {
		c.mu.Lock()
		limit := c.limit
		c.mu.Unlock()
		c.stop()
		defer c.start(limit)
		return ask(ctx, question, secret)
	}
}
