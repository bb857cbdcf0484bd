package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// A Reader reads a manifest and trusts nothing in it.
type Reader struct {
	free    func()
	lines   *bufio.Reader
	long    []byte // a line that is longer than the buffer of lines
	scratch []byte
	line    int
	last    string
	entries uint64
	err     error
}

// NewReader gives a Reader of r, which stays the caller's. It must be closed.
func NewReader(r io.Reader) (*Reader, error) {
	zr, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8*window))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return newReader(zr, zr.Close), nil
}

// newReader gives a Reader of text.
func newReader(text io.Reader, free func()) *Reader {
	return &Reader{free: free, lines: bufio.NewReaderSize(text, flushAt)}
}

// Close frees what the Reader holds. It does not close what is read from.
func (r *Reader) Close() { r.free() }

// Next gives the next entry, and io.EOF behind the last one of a manifest that is whole. With any other error, the entries before
// may be wrong as well: the checksum stands at the end.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	e, err := r.next()
	if err != nil {
		r.err = err
		if err != io.EOF {
			r.err = fmt.Errorf("manifest: line %d: %w", r.line, err)
		}
		return Entry{}, r.err
	}
	return e, nil
}

func (r *Reader) next() (Entry, error) {
	if r.line == 0 {
		first, err := r.readLine()
		if err != nil {
			return Entry{}, err
		}
		if string(first) != header {
			return Entry{}, errors.New("not a manifest")
		}
	}
	line, err := r.readLine()
	if err != nil {
		return Entry{}, err
	}
	if line, ok := bytes.CutPrefix(line, []byte(trailer)); ok {
		return Entry{}, r.end(line)
	}
	var e Entry
	if err := r.parse(line, &e); err != nil {
		return Entry{}, err
	}
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("%q: %w", e.Path, err)
	}
	if r.entries > 0 && Compare(r.last, e.Path) >= 0 {
		return Entry{}, fmt.Errorf("%q: %w behind %q", e.Path, ErrOrder, r.last)
	}
	r.last = e.Path
	r.entries++
	return e, nil
}

// end gives io.EOF if nothing is missing and nothing follows.
func (r *Reader) end(count []byte) error {
	if string(count) != strconv.FormatUint(r.entries, 10) {
		return fmt.Errorf("%d entries instead of %s", r.entries, count)
	}
	switch _, err := r.lines.ReadByte(); {
	case err == nil:
		return errors.New("something follows the end")
	default:
		return err // io.EOF: the checksum was right
	}
}

// readLine gives a line without its end. It is valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	r.line++
	r.long = r.long[:0]
	for {
		part, err := r.lines.ReadSlice('\n')
		if err == nil && len(r.long) == 0 {
			return part[:len(part)-1], nil
		}
		r.long = append(r.long, part...)
		switch {
		case err == io.EOF:
			return nil, errors.New("the manifest was cut off")
		case err != nil && err != bufio.ErrBufferFull:
			return nil, err
		case len(r.long) > maxLine:
			return nil, errors.New("the line is too long")
		case err == nil:
			return r.long[:len(r.long)-1], nil
		}
	}
}
