package sendstream

import "errors"

var (
	// ErrEmpty says that there was not a single byte to read.
	ErrEmpty = errors.New("the sender produced no stream")
	// ErrTruncated says that the stream stops before its END command.
	ErrTruncated = errors.New("send stream is truncated")
	// ErrCorrupt says that the bytes are not a send stream, or not any more.
	ErrCorrupt = errors.New("send stream is corrupt")
	// ErrUnsupported says that the stream has a protocol other than 1 to 3.
	ErrUnsupported = errors.New("send stream has an unsupported protocol")
	// ErrRestartDiffers says that the sender began again and that its second
	// output is not a repetition of the first. What was passed on before is
	// useless, a new transfer may succeed.
	ErrRestartDiffers = errors.New("restarted send stream differs from what was sent before")
)

// A ReadError is a failure of the source of a stream.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "reading send stream: " + e.Err.Error() }

func (e *ReadError) Unwrap() error { return e.Err }

// A WriteError is a failure of the destination of a stream.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "writing send stream: " + e.Err.Error() }

func (e *WriteError) Unwrap() error { return e.Err }
