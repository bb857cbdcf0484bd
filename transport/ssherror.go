package transport

import "errors"

var (
	// ErrUnreachable is in errors of a machine that did not answer: it is worth trying again.
	ErrUnreachable = errors.New("unreachable")
	// ErrDisconnected is in errors of a connection that stood and broke, or whose peer fell silent.
	ErrDisconnected = errors.New("disconnected")
)

// An sshError tells why a machine could not be used.
type sshError struct {
	text  string
	cause error // nil: text tells all
	kind  error // ErrUnreachable, ErrDisconnected or nil
	hint  string
}

func (e *sshError) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}

func (e *sshError) Unwrap() []error {
	var errs []error
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	if e.kind != nil {
		errs = append(errs, e.kind)
	}
	return errs
}

// Hint gives the way forward, or "".
func (e *sshError) Hint() string {
	var below interface{ Hint() string }
	if e.hint == "" && errors.As(e.cause, &below) {
		return below.Hint()
	}
	return e.hint
}
