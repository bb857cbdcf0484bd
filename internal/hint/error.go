package hint

import (
	"errors"
	"io/fs"
	"syscall"
)

// WithoutPath leaves out of an error the path that its message names anyway.
func WithoutPath(err error, path string) error {
	var pathError *fs.PathError
	if !errors.As(err, &pathError) || pathError.Path != path {
		return err
	}
	if forward := Of(err); forward != "" {
		return New(pathError.Err, forward)
	}
	return pathError.Err
}

type errnoError struct {
	error
	errno syscall.Errno
}

// WithErrno makes errors.Is find the errno that a program's message tells.
func WithErrno(err error, errno syscall.Errno) error { return errnoError{err, errno} }

func (e errnoError) Unwrap() []error { return []error{e.error, e.errno} }
