// Package online finds out in a few seconds whether something is there that a job needs: a port, a host, an SSH server, a directory.
//
// It tells what is away (ErrAway), which is no failure of a job, from a check that could not be made. An SSH server that refuses a
// login is there: the job tells what is wrong with that.
package online

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

// ErrAway is in errors of what is not there.
var ErrAway = errors.New("away")

const grammar = "write tcp:HOST:PORT, ping:HOST, ssh:[USER@]HOST[:PORT] or path:/DIR"

// A Check is what to look for.
type Check struct {
	text     string
	patience time.Duration
	probe    func(ctx context.Context, o ssh.Options) error
}

func (c Check) String() string { return c.text }

// Parse reads a check such as tcp:nas:22.
func Parse(text string) (Check, error) {
	kind, rest, _ := strings.Cut(text, ":")
	c := Check{text: text, patience: 5 * time.Second}
	var err error
	switch kind {
	case "tcp":
		var address string
		if address, err = tcpAddress(rest); err == nil {
			c.probe = func(ctx context.Context, _ ssh.Options) error { return tcp(ctx, address) }
		}
	case "ping":
		host := strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
		err = checkHost(host)
		c.probe = func(ctx context.Context, o ssh.Options) error { return ping(ctx, o, host) }
	case "ssh":
		var target ssh.Target
		target, err = sshTarget(rest)
		c.patience = 20 * time.Second // a login asks name servers and more
		c.probe = func(ctx context.Context, o ssh.Options) error { return login(ctx, o, target) }
	case "path":
		if !filepath.IsAbs(rest) {
			err = fmt.Errorf("%q is no absolute path", rest)
		}
		c.probe = func(ctx context.Context, _ ssh.Options) error { return path(ctx, rest) }
	default:
		err = errors.New("unknown kind of check")
	}
	if err != nil {
		return Check{}, hint.New(fmt.Errorf("%q: %w", text, err), grammar)
	}
	return c, nil
}

func tcpAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", errors.New("host and port are needed")
	}
	if _, err := parsePort(port); err != nil {
		return "", err
	}
	return text, checkHost(host)
}

func sshTarget(text string) (t ssh.Target, err error) {
	rest := text
	if user, host, found := strings.Cut(text, "@"); found {
		t.User, rest = user, host
	}
	t.Host = strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
	if host, port, err := net.SplitHostPort(rest); err == nil {
		t.Host = host
		if t.Port, err = parsePort(port); err != nil {
			return t, err
		}
	}
	if strings.HasPrefix(t.User, "-") {
		return t, fmt.Errorf("%q is no user", t.User)
	}
	return t, checkHost(t.Host)
}

func parsePort(text string) (int, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return int(port), nil
}

// checkHost refuses what a program might take for an option, and what no host is called.
func checkHost(host string) error {
	if host == "" || strings.HasPrefix(host, "-") || strings.ContainsAny(host, "/@[] \t") {
		return fmt.Errorf("%q is no host", host)
	}
	return nil
}

// Probe tells whether it is there. Machines are reached by the options, without asking the user.
func (c Check) Probe(ctx context.Context, o ssh.Options) error {
	late := fmt.Errorf("no answer within %s", c.patience)
	limited, cancel := context.WithTimeoutCause(ctx, c.patience, late)
	defer cancel()
	err := c.probe(limited, o)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("looking for %s: %w", c, context.Cause(ctx))
	case limited.Err() != nil:
		err = away(late)
	}
	return fmt.Errorf("%s is %w", c, err)
}

// away tells that something is not there, and why.
func away(cause error) error {
	return hint.New(fmt.Errorf("%w: %w", ErrAway, cause), "nothing is wrong if it is switched off or elsewhere; else look at its address and the network")
}

func tcp(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return away(withoutAddress(err))
	}
	return conn.Close()
}

// withoutAddress leaves out what the check tells anyway.
func withoutAddress(err error) error {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return fmt.Errorf("no machine of the name %s is known", dns.Name)
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	if call := (*os.SyscallError)(nil); errors.As(err, &call) {
		err = call.Err
	}
	return err
}

func ping(ctx context.Context, o ssh.Options, host string) error {
	_, err := transport.Local{Log: o.Log, Level: o.Level}.Output(ctx, "ping", "-c", "1", "-w", "5", host)
	var exit *transport.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return hint.New(fmt.Errorf("not looked for: %w", err), "install the package iputils-ping, or use tcp:HOST:PORT")
	case exit.Stderr == "":
		return away(errors.New("no reply"))
	}
	return away(errors.New(exit.Stderr))
}

// login is what the job does, too, with the same configuration of SSH.
func login(ctx context.Context, o ssh.Options, target ssh.Target) error {
	o.Ask = nil
	machine := ssh.New(target, o)
	defer machine.Close()
	session, err := machine.Session(ctx, "true")
	if err == nil {
		closeErr := session.Stdin.Close()
		_, readErr := io.Copy(io.Discard, session.Stdout)
		err = errors.Join(session.Wait(), closeErr, readErr)
	}
	if errors.Is(err, transport.ErrUnreachable) || ctx.Err() != nil {
		return away(err)
	}
	return nil // whatever the machine says, it is there
}

// path looks at a path on a disk that may never answer.
func path(ctx context.Context, path string) error {
	looked := make(chan error, 1)
	go func() {
		_, err := os.Stat(path)
		looked <- hint.WithoutPath(err, path)
	}()
	select {
	case err := <-looked:
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return away(err)
		}
		return err
	case <-ctx.Done():
		return away(context.Cause(ctx))
	}
}
