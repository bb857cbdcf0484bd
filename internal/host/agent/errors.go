package agent

import (
	"errors"
	"strings"

	"btrfs-backup/transport"
	"btrfs-backup/transport/ssh"
	"btrfs-backup/transport/wire"
)

// noAgentHint tells what to do about a machine on which no agent answers.
func (h *Host) noAgentHint(none *wire.NoAgentError) string {
	var exit *transport.ExitError
	if errors.As(none.Err, &exit) {
		if text := loginHint(h.machine, exit); text != "" {
			return text
		}
	}
	switch {
	case h.o.Command != "":
		return "is --remote-command right?"
	case isMissing(none):
		return "install btrfs-backup on " + h.machine.String()
	}
	return "the user's login shell there must run what it is given: see what `ssh " + h.machine.String() + " 'sh -c true'` prints"
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

// loginHint tells what keeps whoever logs in from running programs as root, or "".
func loginHint(machine *ssh.Machine, exit *transport.ExitError) string {
	says := func(text string) bool { return strings.Contains(exit.Stderr, text) }
	switch {
	case says("sudo:") && (says("password is required") || says("terminal is required") || says("not allowed")):
		return "let the user run commands there as root without a password: a line such as `USER ALL=(root) NOPASSWD: ALL` in " +
			"/etc/sudoers.d, or log in as root"
	case says("sudo: not found"), says("sudo: command not found"), says("sudo: No such file"):
		return "sudo is not installed on " + urlOf(machine) + ": log in as root"
	}
	return ""
}
