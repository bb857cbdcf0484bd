package wire

import (
	"errors"
	"fmt"
	"io"
)

var (
	// ErrBroken is, together with its cause, the error of everything that was under way on a connection that ended.
	ErrBroken = errors.New("connection broken")
	// ErrSilent is the cause of a connection that was closed because nothing came for too long.
	ErrSilent = errors.New("nothing heard from the far side for too long")
	// ErrMalformed is the cause of a connection that was closed because of what the far side sent.
	ErrMalformed = errors.New("malformed data from the far side")
	// ErrClosed is the cause of a connection that this side closed.
	ErrClosed = errors.New("closed")
	// ErrRefused is a Sender's error when the far side could not write the stream where it belongs.
	ErrRefused = errors.New("the far side stopped taking the stream")
)

// brokenError makes a cause an ErrBroken too.
type brokenError struct{ cause error }

func broken(cause error) error {
	if errors.Is(cause, ErrBroken) {
		return cause
	}
	return &brokenError{cause}
}

func (e *brokenError) Error() string {
	switch {
	case errors.Is(e.cause, io.EOF):
		return ErrBroken.Error() + ": the far side ended"
	case errors.Is(e.cause, io.ErrUnexpectedEOF):
		return ErrBroken.Error() + ": the far side ended in the middle of a message"
	}
	return ErrBroken.Error() + ": " + e.cause.Error()
}

func (e *brokenError) Is(target error) bool { return target == ErrBroken }
func (e *brokenError) Unwrap() error        { return e.cause }

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// An Error is an error of the far side, or one for it: a handler that returns an Error, wrapped or not, hands over its
// Detail.
type Error struct {
	Text   string `cbor:"text"`
	Advice string `cbor:"hint,omitempty"` // a way forward, if there is one
	Detail Raw    `cbor:"detail,omitzero"`
}

func (e *Error) Error() string { return e.Text }

// Hint tells a way forward, or nothing.
func (e *Error) Hint() string { return e.Advice }

// errorOf is an error in the form that travels.
func errorOf(err error) *Error {
	e := &Error{Text: err.Error()}
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		e.Advice = hinter.Hint()
	}
	var inner *Error
	if errors.As(err, &inner) {
		e.Detail = inner.Detail
	}
	return e
}

// A NoAgentError tells that the other end of the stream is not our program.
type NoAgentError struct {
	Said string // what came instead, as one short line
	Err  error  // why no more was waited for
}

func (e *NoAgentError) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("no answer from btrfs-backup on the far side: %v", e.Err)
	}
	return fmt.Sprintf("no answer from btrfs-backup on the far side, but: %s", e.Said)
}

func (e *NoAgentError) Unwrap() error { return e.Err }

// A ProtocolError tells that two programs of different versions do not understand each other.
type ProtocolError struct {
	Ours, Theirs             int
	OurVersion, TheirVersion string
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("btrfs-backup %s on the far side speaks protocol %d, version %s here speaks %d",
		e.TheirVersion, e.Theirs, e.OurVersion, e.Ours)
}

// Hint tells which side to update.
func (e *ProtocolError) Hint() string {
	if e.Theirs < e.Ours {
		return "update btrfs-backup on the far side"
	}
	return "update btrfs-backup on this machine"
}
