// Package hint gives errors a way forward: a sentence that tells what to do, which is shown beside the error. It
// also changes what an error tells, and what is found in it.
package hint

import (
	"errors"
	"fmt"
)

type hinted struct {
	error
	text string
}

func (e hinted) Unwrap() error { return e.error }

// Hint gives the way forward.
func (e hinted) Hint() string { return e.text }

// New gives an error a hint, in place of those below it.
func New(err error, text string) error { return hinted{err, text} }

// Newf is New with a format.
func Newf(err error, format string, args ...any) error { return New(err, fmt.Sprintf(format, args...)) }

// Of gives the outermost hint of an error, from whatever package: that of its method Hint. It is "" if there is none.
func Of(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
