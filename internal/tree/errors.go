package tree

// withHint is an error and the way forward.
type withHint struct {
	error
	hint string
}

func (e withHint) Hint() string  { return e.hint }
func (e withHint) Unwrap() error { return e.error }
