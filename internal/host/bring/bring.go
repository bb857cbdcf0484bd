// Package bring puts this program on another machine where it is missing, over sessions of a connection that is open anyway.
//
// It goes to ~/.cache/btrfs-backup/SHA256/btrfs-backup, or where that cannot be written or run from, to a directory of the
// user below XDG_RUNTIME_DIR, /run (as root) or /var/tmp, and stays there for later runs; what nobody used for 30 days is removed.
// It is run only from a directory that nobody but the user and root can change, and only if it has the SHA-256 of what was to
// be brought. A privileged run needs no more: who can change it between that look and its start may become root anyway.
//
// Needed there are a POSIX sh, the programs of coreutils or busybox, and one of sha256sum, shasum and openssl. Nothing is sent
// to what has not proved to be a shell.
package bring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// DefaultAgents is where the programs for other CPUs are looked for.
const DefaultAgents = "/usr/lib/btrfs-backup/agents"

// A Machine runs a command line in a login shell (ssh.Machine).
type Machine interface {
	Session(ctx context.Context, line string) (*transport.Session, error)
	String() string
}

// Options are what Program depends on.
type Options struct {
	// Agents is the directory that holds the programs for other CPUs as btrfs-backup-linux-GOARCH; "" is DefaultAgents.
	Agents string
	Log    *slog.Logger
}

// A Copy is the program at the far end.
type Copy struct {
	Path string
	Sent int64 // bytes; 0 if it was there

	place, sha, user string
}

// ErrNoShell tells that nothing there runs command lines: the key is bound to a command, or the account to a program.
var ErrNoShell = errors.New("the machine does not run commands")

// Program makes sure that the machine has this program. The error names each place that it cannot be put to, and why.
func Program(ctx context.Context, m Machine, o Options) (*Copy, error) {
	program, err := own()
	if err != nil {
		return nil, err
	}
	there, err := look(ctx, m, program.sha)
	if err != nil {
		return nil, err
	}
	arch, err := there.arch()
	if err != nil {
		return nil, cannot(m, err)
	}
	if arch != runtime.GOARCH {
		if program, err = foreign(o.Agents, arch); err != nil {
			return nil, cannot(m, err)
		}
		if there, err = look(ctx, m, program.sha); err != nil {
			return nil, err
		}
	}
	if there.blind {
		return nil, cannot(m, hint.New(errors.New("none of sha256sum, shasum and openssl is there to check it"), elsewise))
	}
	if there.have != nil {
		return there.have, nil
	}
	for _, changed := range there.changed {
		o.Log.Warn(fmt.Sprintf("%s: %s; bringing it anew", m, changed))
	}
	return deliver(ctx, m, there, program)
}

// deliver tries the places in their order.
func deliver(ctx context.Context, m Machine, there *state, program *program) (*Copy, error) {
	var reasons []string
	for _, p := range there.places {
		c := &Copy{place: p.index, sha: program.sha, user: there.user}
		var refused refusal
		err := c.put(ctx, m, program, there.unpack)
		switch {
		case err == nil:
			return c, nil
		case !errors.As(err, &refused):
			return nil, cannot(m, err)
		}
		reasons = append(reasons, p.top+": "+string(refused))
	}
	return nil, cannot(m, hint.New(errors.New(strings.Join(reasons, "; ")), elsewise))
}

func cannot(m Machine, err error) error { return fmt.Errorf("bringing btrfs-backup to %s: %w", m, err) }

const elsewise = "install btrfs-backup there"

// Line is a command line that runs the program, if it is as it was brought. Else its status is 127.
func (c *Copy) Line(sudo bool, args ...string) string {
	command := ""
	if sudo {
		command = "sudo -n --"
	}
	return line("", "", c.sha, "run", append([]string{c.place, command}, args...)...)
}

// Sudoers is the line of sudoers(5) that lets the user run what is brought there, in all its versions.
func (c *Copy) Sudoers() string { return sudoers(c.user, path.Dir(path.Dir(c.Path))+"/*/btrfs-backup") }

// Sudoers is the line of sudoers(5) that lets the user run a program there; "" is the installed one.
func Sudoers(ctx context.Context, m Machine, program string) string {
	there, err := look(ctx, m, "")
	if err != nil {
		return sudoers("USER", "")
	}
	return sudoers(there.user, cmp.Or(program, there.installed))
}

func sudoers(user, program string) string {
	special := strings.NewReplacer(`\`, `\\`, " ", `\ `, ",", `\,`, ":", `\:`, "=", `\=`)
	line := special.Replace(user) + " ALL=(root) NOPASSWD: "
	if !path.IsAbs(program) {
		return line + "ALL"
	}
	return line + special.Replace(program) + " serve *"
}
