package agent

import (
	"strings"

	"btrfs-backup/transport"
	"btrfs-backup/transport/ssh"
)

// loginHint tells what keeps whoever logs in from running programs as root, or "".
func loginHint(machine *ssh.Machine, exit *transport.ExitError) string {
	switch {
	case isRefused(exit):
		return "let the user run commands there as root without a password: a line such as `USER ALL=(root) NOPASSWD: ALL` in " +
			"/etc/sudoers.d, or log in as root"
	case lacksSudo(exit):
		return "sudo is not installed on " + urlOf(machine) + ": log in as root"
	}
	return ""
}

// isRefused tells that sudo does not run the program for this user.
func isRefused(exit *transport.ExitError) bool {
	says := func(text string) bool { return strings.Contains(exit.Stderr, text) }
	return says("sudo:") && (says("password is required") || says("terminal is required") || says("not allowed")) ||
		says("Sorry, user ") && says(" is not allowed to execute ")
}

// lacksSudo tells that there is no sudo.
func lacksSudo(exit *transport.ExitError) bool {
	says := func(text string) bool { return strings.Contains(exit.Stderr, text) }
	return says("sudo: not found") || says("sudo: command not found") || says("sudo: No such file")
}
