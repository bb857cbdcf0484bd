package sendstream

import (
	"bufio"
	"errors"
	"io"
)

// A Splitter reads streams that stand one behind the other, as cat makes them of
// several files: one at a time, each up to its END command. It follows the
// lengths of commands and checks nothing else. Where these make no sense, what
// follows is passed on as a part of the stream, for whoever checks it.
type Splitter struct {
	in    *bufio.Reader
	left  int  // bytes of the current unit
	begun bool // the header of the current stream was passed on
	last  bool // the current unit is END
	ended bool
	lost  bool // the lengths make no sense
}

// NewSplitter returns a Splitter that reads from r, also ahead. Next begins the
// first stream.
func NewSplitter(r io.Reader) *Splitter {
	return &Splitter{in: bufio.NewReaderSize(r, maxCommandSize), ended: true}
}

// Next begins the next stream, and skips what was not read of the current one.
// It tells whether there is one.
func (s *Splitter) Next() (bool, error) {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return false, err
	}
	*s = Splitter{in: s.in}
	_, err := s.in.Peek(1)
	if s.ended = err != nil; errors.Is(err, io.EOF) {
		err = nil
	}
	return !s.ended, err
}

// Head gives what the current stream, of which nothing was read yet, tells of
// itself. It reads no further than its first command.
func (s *Splitter) Head() (Summary, error) {
	var sum Summary
	size := streamHeaderSize
	for {
		head, err := s.in.Peek(size)
		if err != nil && !errors.Is(err, io.EOF) {
			return sum, &ReadError{Err: err}
		}
		if len(head) < size {
			return sum, ErrTruncated
		}
		next, err := headSize(head)
		if err != nil {
			return sum, err
		}
		if next == size {
			sum.Protocol = protocolOf(head)
			return sum, sum.identify(head[streamHeaderSize:])
		}
		size = next
	}
}

func (s *Splitter) Read(p []byte) (int, error) {
	if s.ended {
		return 0, io.EOF
	}
	if s.left == 0 && !s.lost {
		s.measure()
	}
	if !s.lost && s.left < len(p) {
		p = p[:s.left]
	}
	n, err := s.in.Read(p)
	if !s.lost {
		s.left -= n
	}
	s.ended = s.ended || s.last && s.left == 0
	return n, err
}

// measure finds the size of the next unit. What is too short for one is the rest.
func (s *Splitter) measure() {
	if !s.begun {
		s.begun, s.left = true, streamHeaderSize
		return
	}
	header, _ := s.in.Peek(commandHeaderSize)
	size, err := checkCommandHeader(header)
	s.lost = err != nil
	s.left, s.last = size, err == nil && size == commandHeaderSize && commandType(header) == CmdEnd
}

func checkCommandHeader(header []byte) (int, error) {
	size, err := checkCommand(header)
	if errors.Is(err, errIncomplete) && len(header) == commandHeaderSize {
		return commandSize(header), nil
	}
	return size, err
}
