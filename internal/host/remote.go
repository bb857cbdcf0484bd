package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/transport"
	"btrfs-backup/transport/wire"
)

// Remote is another machine, reached when it is first needed: through its agent if it has one, else through its shell.
type Remote struct {
	ssh *transport.SSH
	o   AgentOptions

	mu   sync.Mutex
	host Trees // nil before it is reached
}

var _ Host = (*Remote)(nil)

// NewRemote gives a machine without reaching it yet.
func NewRemote(ssh *transport.SSH, o AgentOptions) *Remote { return &Remote{ssh: ssh, o: o} }

// urlOf names a machine as in ssh://[user@]host[:port].
func urlOf(ssh *transport.SSH) string { return "ssh://" + ssh.String() }

func (r *Remote) String() string { return urlOf(r.ssh) }

// reach gives the machine. After a failure it is tried again.
func (r *Remote) reach(ctx context.Context) (Trees, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.host != nil {
		return r.host, nil
	}
	agent, err := NewAgent(ctx, r.ssh, r.o)
	var none *wire.NoAgentError
	switch {
	case errors.As(err, &none) && isMissing(none) && r.o.Command == "":
		r.o.Log.Info(fmt.Sprintf("%s: no btrfs-backup answers there, so plain commands are used", r))
		r.host = NewShell(r.ssh, ShellOptions{Sudo: r.o.Sudo, Log: r.o.Log})
		return r.host, nil
	case none != nil:
		return nil, withHint{err, r.hint(none)}
	case err != nil:
		return nil, err
	}
	r.host = agent
	return agent, nil
}

// isMissing tells that the program is not there, or is one that knows no agent. sh exits with 127 for a missing program, sudo
// with 1 and these words, older programs of the name with 2 for an unknown option.
func isMissing(err *wire.NoAgentError) bool {
	var exit *transport.ExitError
	if !errors.As(err.Err, &exit) {
		return false
	}
	switch exit.State {
	case "exit status 127", "exit status 2":
		return true
	case "exit status 1":
		return strings.Contains(exit.Stderr, "sudo: ") && strings.Contains(exit.Stderr, ": command not found")
	}
	return false
}

func (r *Remote) hint(none *wire.NoAgentError) string {
	shell := NewShell(r.ssh, ShellOptions{Sudo: r.o.Sudo, Log: r.o.Log})
	var exit *transport.ExitError
	if errors.As(none.Err, &exit) && shell.hint(exit) != "" {
		return shell.hint(exit)
	}
	if r.o.Command != "" {
		return "is --remote-command right? Without it plain commands are used where the program is missing"
	}
	return "the user's login shell there must run what it is given: see what `ssh " + r.ssh.String() + " 'sh -c true'` prints"
}

func (r *Remote) Open(ctx context.Context, path string) (Dir, error) {
	h, err := r.reach(ctx)
	if err != nil {
		return nil, err
	}
	return h.Open(ctx, path)
}

func (r *Remote) List(ctx context.Context, path string) (Status, Content, error) {
	h, err := r.reach(ctx)
	if err != nil {
		return Status{}, Content{}, err
	}
	return h.List(ctx, path)
}

func (r *Remote) MkdirAll(ctx context.Context, path string) error {
	h, err := r.reach(ctx)
	if err != nil {
		return err
	}
	return h.MkdirAll(ctx, path)
}

func (r *Remote) Format(ctx context.Context) (sendstream.Format, error) {
	h, err := r.reach(ctx)
	if err != nil {
		return sendstream.Format{}, err
	}
	return h.Format(ctx)
}

// Close ends the connection.
func (r *Remote) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if agent, ok := r.host.(*Agent); ok {
		return errors.Join(agent.Close(), r.ssh.Close())
	}
	return r.ssh.Close()
}
