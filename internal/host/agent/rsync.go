package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

// noClient is in what `btrfs-backup serve` says when something else than this program calls (wire.NoAgentError).
const noClient = "no answer from btrfs-backup on the far side"

// Rsync makes the machine reachable for an rsync on this one; the agent has no part in it.
func (h *Host) Rsync(ctx context.Context) (*rsh.Link, error) {
	argv := []string{"rsync"}
	if h.o.Sudo {
		argv = []string{"sudo", "-n", "rsync"}
	}
	if err := checkRsync(ctx, h.machine, argv); err != nil {
		return nil, err
	}
	return rsh.Shell(ctx, h.machine, argv)
}

// checkRsync fails unless the machine runs rsync when it is told to: rsync's own messages would not tell why.
func checkRsync(ctx context.Context, machine *ssh.Machine, argv []string) error {
	const enough = 200 // of the answer
	session, err := machine.Session(ctx, transport.Quote(append(argv, "--version")...))
	if err != nil {
		return err
	}
	_ = session.Stdin.Close() // it is not read
	answer, _ := io.ReadAll(io.LimitReader(session.Stdout, enough))
	if len(answer) == enough && !strings.HasPrefix(string(answer), "rsync ") {
		session.Kill() // whatever it is, it may go on
	}
	_, _ = io.Copy(io.Discard, session.Stdout)
	err = session.Wait()
	var exit *transport.ExitError
	switch {
	case strings.HasPrefix(string(answer), "rsync ") && err == nil:
		return nil
	case errors.As(err, &exit) && strings.Contains(exit.Stderr, noClient):
		return hint.New(fmt.Errorf("running rsync on %s: the key runs btrfs-backup serve there, and no other command", urlOf(machine)),
			"directories and what is in backups are copied by rsync: use a key without a forced command")
	case len(answer) > 0:
		first, _, _ := strings.Cut(string(answer), "\n")
		return hint.New(fmt.Errorf("running rsync on %s: the answer is not rsync's: %q", urlOf(machine), first),
			"the key there must allow any command, and the user's login shell must print nothing of its own")

	case errors.As(err, &exit):
		return hint.New(fmt.Errorf("running rsync on %s: %w", urlOf(machine), exit), rsyncHint(machine, exit))
	case err == nil:
		return hint.New(fmt.Errorf("running rsync on %s: no answer", urlOf(machine)), "the key there must allow any command")
	}
	return err
}

func rsyncHint(machine *ssh.Machine, exit *transport.ExitError) string {
	user, _, named := strings.Cut(machine.String(), "@")
	if !named {
		user = "USER"
	}
	switch {
	case isRefused(exit):
		return "rsync needs a line of its own: log in as root, or add this line there by `visudo -f /etc/sudoers.d/btrfs-backup`: " +
			user + " ALL=(root) NOPASSWD: /usr/bin/rsync"
	case lacksSudo(exit):
		return withoutSudo(machine)
	case exit.State == "exit status 127", strings.Contains(exit.Stderr, "command not found"):
		return "install rsync on " + machine.String()
	}
	return "the key there must allow any command: see what `ssh " + machine.String() + " rsync --version` prints"
}
