package transport

import (
	"io"
	"os"
	"sync/atomic"
)

// A Session is a running command on another machine, or a connection that it forwards (SSH.Dial). Wait must be called.
//
// Stdin takes the command's input, best in writes of 32 KiB and more; closing it is its end. Stdout gives its output. It ends
// also when the connection breaks, without an error: only Wait tells whether the output is complete.
type Session struct {
	Stdin  io.WriteCloser
	Stdout io.Reader

	wait func() error
	kill func()
}

// Wait waits for the end of the command. It returns an *ExitError if the command failed, an error that is ErrDisconnected if
// the connection broke first, and the context's cause if that ended first. Output that nobody reads holds it up.
func (s *Session) Wait() error { return s.wait() }

// Kill ends the session soon: its streams end and Wait returns an error. It does not block. The command sees its streams end,
// and goes on if it uses none: it gets no signal, since one for an agent that keeps a transfer would end that.
func (s *Session) Kill() { s.kill() }

// programOutput closes a pipe when it was read to its end.
type programOutput struct {
	pipe *os.File
	some atomic.Bool // something was read
}

func (o *programOutput) Read(p []byte) (int, error) {
	n, err := o.pipe.Read(p)
	if n > 0 {
		o.some.Store(true)
	}
	if err != nil {
		_ = o.pipe.Close() // only read from
	}
	return n, err
}
