package sendstream

import (
	"errors"
	"io"

	"github.com/zeebo/xxh3"
)

// Format is a variety of send stream. The zero Format is protocol 1.
type Format struct {
	Protocol   int
	Compressed bool // extents that are compressed on disk stay so
	NoData     bool // the receiver takes the data of files from where they are
}

// A Prefix identifies the beginning of a stream.
//
// Its hash is not a cryptographic one: it tells streams apart that a sender
// made differently, say after a deduplication. Whoever could forge one stream
// with the hash of another could as well send anything from the start.
type Prefix struct {
	Bytes int64
	XXH3  [16]byte // of those bytes; of none if there are none. XXH3 of 128 bits, big-endian
}

// ErrPrefixDiffers says that a stream does not begin with what the receiver
// has already. It must be sent from the start.
var ErrPrefixDiffers = errors.New("the stream is not the one that was begun")

// A PrefixCounter passes a stream on to a writer and identifies what the
// writer has taken.
type PrefixCounter struct {
	w    io.Writer
	n    int64
	hash *xxh3.Hasher128
}

// NewPrefixCounter returns a PrefixCounter that writes to w.
func NewPrefixCounter(w io.Writer) *PrefixCounter {
	return &PrefixCounter{w: w, hash: xxh3.New128()}
}

func (c *PrefixCounter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.hash.Write(p[:n])
	return n, err
}

// Prefix identifies what has been written so far.
func (c *PrefixCounter) Prefix() Prefix {
	return Prefix{Bytes: c.n, XXH3: c.hash.Sum128().Bytes()}
}

// A Remainder passes on what follows the given prefix of a stream.
type Remainder struct {
	w      io.Writer
	prefix Prefix
	left   int64
	hash   *xxh3.Hasher128
	err    error
}

// NewRemainder returns a writer that drops the first bytes written to it if
// they are those of prefix, and writes the others to w. If they differ, it
// fails with ErrPrefixDiffers, and w sees nothing.
func NewRemainder(w io.Writer, prefix Prefix) *Remainder {
	return &Remainder{w: w, prefix: prefix, left: prefix.Bytes, hash: xxh3.New128()}
}

func (r *Remainder) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	dropped := int(min(r.left, int64(len(p))))
	if dropped > 0 {
		r.hash.Write(p[:dropped])
		r.left -= int64(dropped)
		if r.left == 0 && r.hash.Sum128().Bytes() != r.prefix.XXH3 {
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
