package transport

import "errors"

var (
	// ErrUnreachable is in errors of a machine that did not answer: it is worth trying again.
	ErrUnreachable = errors.New("unreachable")
	// ErrDisconnected is in errors of a connection that stood and broke, or whose peer fell silent.
	ErrDisconnected = errors.New("disconnected")
)
