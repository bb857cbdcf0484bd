package ssh

import "errors"

// A failure tells why a machine could not be used.
type failure struct {
	text  string
	cause error // nil: text tells all
	kind  error // transport.ErrUnreachable, transport.ErrDisconnected or nil
	hint  string
}

func (e *failure) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}

func (e *failure) Unwrap() []error {
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
func (e *failure) Hint() string {
	var below interface{ Hint() string }
	if e.hint == "" && errors.As(e.cause, &below) {
		return below.Hint()
	}
	return e.hint
}
