package agent

import (
	"strings"

	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

// withoutSudo is the hint where there is no sudo.
func withoutSudo(machine *ssh.Machine) string {
	return "sudo is not installed on " + urlOf(machine) + ": log in as root"
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
