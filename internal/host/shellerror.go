package host

import (
	"errors"
	"strings"

	"btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// shellStatus is what the scripts end with in place of the status of a program. Those that have no error here say by
// themselves what is wrong.
var shellStatus = map[string]error{
	"exit status 61": unix.ENOENT,
	"exit status 62": unix.EEXIST,
	"exit status 63": unix.ENOTDIR,
	"exit status 64": unix.EACCES,
	"exit status 65": nil, // something else is there than before
	"exit status 66": nil, // what should be a file is none
	"exit status 67": errors.New("the connection lost a part of the content"),
	"exit status 68": errNotSynced,
	"exit status 69": errNotLink,
}

var errNotSynced = errors.New("it may not be on disk")

// toldError is an error of a program, in which errors.Is finds the errno that it told.
type toldError struct {
	error
	errno unix.Errno
}

func (e toldError) Unwrap() []error { return []error{e.error, e.errno} }

// explain gives the failure of a script the name of what it did, and what errors.Is and the user look for.
func (s *Shell) explain(name string, err error) error {
	var exit *transport.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if known := shellStatus[exit.State]; known != nil {
		return known
	}
	err = &transport.ExitError{Program: name, State: exit.State, Stderr: exit.Stderr}
	if hint := s.hint(exit); hint != "" {
		err = withHint{err, hint}
	}
	return err
}

// told is explain for scripts that do what system calls do on this machine.
func told(err error) error {
	var exit *transport.ExitError
	if errors.As(err, &exit) {
		if errno := transport.ErrnoIn(exit.Stderr); errno != 0 {
			return toldError{err, errno}
		}
	}
	return err
}

func (s *Shell) hint(exit *transport.ExitError) string {
	says := func(text string) bool { return strings.Contains(exit.Stderr, text) }
	missing := func(program string) bool {
		return says(program+": not found") || says(program+": command not found") || says(program+": No such file")
	}
	errno := transport.ErrnoIn(exit.Stderr)
	switch {
	case says("sudo:") && (says("password is required") || says("terminal is required") || says("not allowed")):
		return "let the user run commands there as root without a password: a line such as `USER ALL=(root) NOPASSWD: ALL` in " +
			"/etc/sudoers.d, or log in as root"
	case missing("sudo"):
		return "sudo is not installed on " + s.String() + ": log in as root"
	case missing("btrfs"):
		return "install btrfs-progs on " + s.String()
	case !s.options.Sudo && (errno == unix.EPERM || errno == unix.EACCES):
		return "log in as root, or let commands run by sudo there"
	}
	return ""
}

// verdict is what a script says of one of several names: nothing, or the message of a program.
func verdict(operation, path, message string) error {
	if message == "" {
		return nil
	}
	message = strings.ReplaceAll(strings.TrimSpace(message), "\n", "; ")
	err := errors.New(operation + " " + path + ": " + strings.TrimPrefix(message, "ERROR: "))
	if errno := transport.ErrnoIn(message); errno != 0 {
		return toldError{err, errno}
	}
	return err
}
