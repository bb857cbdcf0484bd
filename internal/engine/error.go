package engine

import (
	"errors"
	"fmt"
)

type hintedError struct {
	err  error
	hint string
}

// Hint adds the way forward to an error.
func Hint(err error, format string, args ...any) error {
	return &hintedError{err, fmt.Sprintf(format, args...)}
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// Hint gives the way forward.
func (e *hintedError) Hint() string { return e.hint }

// HintOf gives the way forward that err holds, or "".
func HintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
