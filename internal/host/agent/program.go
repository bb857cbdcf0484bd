package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/bring"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// serving are the arguments that make the program an agent. The option keeps older programs of the same name, which know
// neither the command nor the option, from doing anything.
var serving = []string{"serve", fmt.Sprintf("--protocol=%d", wire.Protocol)}

// line is the command line that starts the agent: the program that was brought, or else the installed one. sudo would refuse a
// missing program as it refuses one that the user may not run.
func (h *Host) line(brought *bring.Copy) string {
	if brought != nil {
		return brought.Line(h.o.Sudo, serving...)
	}
	const (
		path     = `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; `
		isThere  = `command -v "$1" >/dev/null || { echo "$1: not found" >&2; exit 127; }; `
		byItself = `exec "$@"`
		bySudo   = `exec sudo -n -- "$@"`
	)
	script := path + byItself
	switch {
	case h.o.Sudo && h.o.Command == "":
		script = path + isThere + bySudo
	case h.o.Sudo: // only root may be able to look there
		script = path + bySudo
	}
	return transport.Quote(append([]string{"sh", "-c", script, "sh", cmp.Or(h.o.Command, "btrfs-backup")}, serving...)...)
}

// greet says what a session of the agent is for. Where no program answers that understands this one, this one is brought.
func (h *Host) greet(ctx context.Context, o *opening, stream protocol.StreamName) (*wire.Greeting, error) {
	brought := o.brought
	met, err := h.greetBy(ctx, o, stream)
	var other *wire.ProtocolError
	if err != nil && h.o.Bring && (errors.As(err, &other) || isMissing(err)) {
		fresh, bringErr := h.bring(ctx, brought, other != nil)
		switch {
		case bringErr == nil:
			brought = fresh
			met, err = h.greetBy(ctx, h.open(ctx, brought), stream)
		case other == nil || !errors.Is(bringErr, bring.ErrNoShell): // else a forced command answers
			return nil, bringErr
		}
	}
	return met, h.explained(ctx, err, brought)
}

// bring puts this program there, in place of one that did not do. Several sessions may need it at once.
func (h *Host) bring(ctx context.Context, failed *bring.Copy, other bool) (*bring.Copy, error) {
	h.bringing.Lock()
	defer h.bringing.Unlock()
	if h.brought != failed {
		return h.brought, nil
	}
	c, err := bring.Program(ctx, h.machine, bring.Options{Agents: h.o.Agents, Log: h.o.Log})
	if err != nil {
		return nil, err
	}
	if failed == nil || c.Sent > 0 {
		text := "is not installed there"
		if other {
			text = "there speaks another protocol"
		}
		text = fmt.Sprintf("%s: btrfs-backup %s; using the one brought to %s", h, text, path.Dir(path.Dir(c.Path)))
		level := slog.LevelDebug // each run would say so
		if c.Sent > 0 {
			level, text = slog.LevelInfo, text+fmt.Sprintf(", %.1f MiB", float64(c.Sent)/(1<<20))
		}
		h.o.Log.Log(ctx, level, text)
	}
	h.brought = c
	return c, nil
}

// isMissing tells that the program is not there, cannot run there, or is one that knows no agent. sh exits with 127 for a missing
// program and 126 for one that it cannot run, sudo with 1 and these words, older programs of the name with 2 for an unknown option.
func isMissing(err error) bool {
	var none *wire.NoAgentError
	var exit *transport.ExitError
	if !errors.As(err, &none) || !errors.As(none.Err, &exit) || lacksSudo(exit) {
		return false
	}
	switch exit.State {
	case "exit status 127", "exit status 126", "exit status 2":
		return true
	case "exit status 1":
		return strings.Contains(exit.Stderr, "sudo: ") && strings.Contains(exit.Stderr, ": command not found")
	}
	return false
}

// explained gives the error of a machine on which no agent answers a hint.
func (h *Host) explained(ctx context.Context, err error, brought *bring.Copy) error {
	var other *wire.ProtocolError
	var none *wire.NoAgentError
	var exit *transport.ExitError
	switch {
	case errors.As(err, &other) && brought != nil:
		return hint.Newf(err, "the program in %s is of another version: replace it", cmp.Or(h.o.Agents, bring.DefaultAgents))
	case !errors.As(err, &none):
		return err
	case errors.As(none.Err, &exit) && lacksSudo(exit):
		return hint.New(err, withoutSudo(h.machine))
	case errors.As(none.Err, &exit) && isRefused(exit):
		return hint.Newf(err, "log in as root, or add this line there by `visudo -f /etc/sudoers.d/btrfs-backup`: %s", h.sudoers(ctx, brought))
	case h.o.Command != "":
		return hint.New(err, "is --remote-command right?")
	case isMissing(err):
		return hint.Newf(err, "install btrfs-backup on %s, or let it be brought there by --agent auto", h.machine)
	}
	return hint.Newf(err, "the user's login shell there must run the given command: look at the output of `ssh %s 'sh -c true'`", h.machine)
}

// sudoers is the line of sudoers(5) that is missing there.
func (h *Host) sudoers(ctx context.Context, brought *bring.Copy) string {
	if brought != nil {
		return brought.Sudoers()
	}
	return bring.Sudoers(ctx, h.machine, h.o.Command)
}
