package transport

import "io"

// A Session is a running command on another machine, or a connection that it forwards (ssh.Machine.Dial). Wait must be called.
//
// Stdin takes the command's input, best in writes of 32 KiB and more; closing it is its end. Stdout gives its output. It ends
// also when the connection breaks, without an error: only Wait tells whether the output is complete.
type Session struct {
	Stdin  io.WriteCloser
	Stdout io.Reader

	wait func() error
	kill func()
}

// NewSession makes a session of its streams and of what its methods do. wait may be called again.
func NewSession(stdin io.WriteCloser, stdout io.Reader, wait func() error, kill func()) *Session {
	return &Session{Stdin: stdin, Stdout: stdout, wait: wait, kill: kill}
}

// Wait waits for the end of the command. It returns an *ExitError if the command failed, an error that is ErrDisconnected if
// the connection broke first, and the context's cause if that ended first. Output that nobody reads holds it up.
func (s *Session) Wait() error { return s.wait() }

// Kill ends the session soon: its streams end and Wait returns an error. It does not block. The command sees its streams end,
// and goes on if it uses none: it gets no signal, since one for an agent that keeps a transfer would end that.
func (s *Session) Kill() { s.kill() }
