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

// Each gives the errors that others stand for, in their places, and leaves out what is none.
func Each(errs ...error) (all []error) {
	for _, err := range errs {
		parts := partsOf(err)
		switch {
		case len(parts) > 0:
			all = append(all, Each(parts...)...)
		case err != nil:
			all = append(all, err)
		}
	}
	return all
}

// partsOf gives the errors that one stands for, none if it is a single one.
func partsOf(err error) []error {
	var several Complaints
	if errors.As(err, &several) {
		parts := make([]error, len(several))
		for i, c := range several {
			parts[i] = c
		}
		return parts
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) == 0 || errors.Join(joined.Unwrap()...).Error() != err.Error() { // others wrap several
		return nil
	}
	return joined.Unwrap()
}
