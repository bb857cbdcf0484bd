package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
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

// WithoutPath leaves out of an error the path that its message names anyway.
func WithoutPath(err error, path string) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) && pathError.Path == path {
		return pathError.Err
	}
	return err
}

type errnoError struct {
	error
	errno syscall.Errno
}

// WithErrno makes errors.Is find the errno that a program's message tells.
func WithErrno(err error, errno syscall.Errno) error { return errnoError{err, errno} }

func (e errnoError) Unwrap() []error { return []error{e.error, e.errno} }
