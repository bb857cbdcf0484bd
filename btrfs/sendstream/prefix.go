package sendstream

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
)

// Format is a variety of send stream. The zero Format is protocol 1.
type Format struct {
	Protocol   int
	Compressed bool // extents that are compressed on disk stay so
}

// A Prefix identifies the beginning of a stream.
type Prefix struct {
	Bytes  int64
	SHA256 [sha256.Size]byte // of those bytes; of none if there are none
}

// ErrPrefixDiffers says that a stream does not begin with what the receiver
// has already. It must be sent from the start.
var ErrPrefixDiffers = errors.New("the stream is not the one that was begun")

// A PrefixCounter passes a stream on to a writer and identifies what the
// writer has taken.
type PrefixCounter struct {
	w    io.Writer
	n    int64
	hash hash.Hash
}

// NewPrefixCounter returns a PrefixCounter that writes to w.
func NewPrefixCounter(w io.Writer) *PrefixCounter {
	return &PrefixCounter{w: w, hash: sha256.New()}
}

func (c *PrefixCounter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.hash.Write(p[:n])
	return n, err
}

// Prefix identifies what has been written so far.
func (c *PrefixCounter) Prefix() Prefix {
	p := Prefix{Bytes: c.n}
	c.hash.Sum(p.SHA256[:0])
	return p
}

// A Remainder passes on what follows the given prefix of a stream.
type Remainder struct {
	w      io.Writer
	prefix Prefix
	left   int64
	hash   hash.Hash
	err    error
}

// NewRemainder returns a writer that drops the first bytes written to it if
// they are those of prefix, and writes the others to w. If they differ, it
// fails with ErrPrefixDiffers, and w sees nothing.
func NewRemainder(w io.Writer, prefix Prefix) *Remainder {
	return &Remainder{w: w, prefix: prefix, left: prefix.Bytes, hash: sha256.New()}
}

func (r *Remainder) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	dropped := int(min(r.left, int64(len(p))))
	if dropped > 0 {
		r.hash.Write(p[:dropped])
		r.left -= int64(dropped)
		if r.left == 0 && [sha256.Size]byte(r.hash.Sum(nil)) != r.prefix.SHA256 {
			r.err = ErrPrefixDiffers
			return 0, r.err
		}
	}
	if dropped == len(p) {
		return dropped, nil
	}
	n, err := r.w.Write(p[dropped:])
	r.err = err
	return dropped + n, err
}

// Close fails with ErrPrefixDiffers if the stream was shorter than the prefix.
// It does not close the underlying writer.
func (r *Remainder) Close() error {
	if r.err == nil && r.left > 0 {
		r.err = ErrPrefixDiffers
	}
	return r.err
}
