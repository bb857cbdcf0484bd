package sendstream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// A Splitter reads streams that stand one behind the other, as cat makes them of
// several files: one at a time, each up to its END command. What btrfs send -e
// leaves out between them, that command and the next header, is put in. It follows the
// lengths of commands and checks nothing else. Where these make no sense, what
// follows is passed on as a part of the stream, for whoever checks it.
type Splitter struct {
	in    *bufio.Reader
	left  int  // bytes of the current unit
	begun bool // the header of the current stream was passed on
	last  bool // the current unit is END
	ended bool
	lost  bool   // the lengths make no sense
	head  []byte // of the current stream
	first bool   // no command was read yet
	joins bool   // the END command of the current stream was put in
	joint bool   // that of the one before it
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
	*s = Splitter{in: s.in, joint: s.joins}
	_, err := s.in.Peek(1)
	if s.ended = err != nil; errors.Is(err, io.EOF) {
		err = nil
	}
	return !s.ended, err
}

// Joint tells that the current stream is of the same sender as the one before it,
// which left out the END command between them.
func (s *Splitter) Joint() bool { return s.joint }

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
		if err := s.measure(); err != nil {
			return 0, err
		}
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

// measure finds the size of the next unit. What is too short for one is the rest. A failure of the source is not told a second time.
func (s *Splitter) measure() error {
	if !s.begun {
		head, err := s.in.Peek(streamHeaderSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		s.begun, s.first, s.left, s.head = true, true, streamHeaderSize, bytes.Clone(head)
		return nil
	}
	header, err := s.in.Peek(commandHeaderSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	size, err := checkCommandHeader(header)
	if err == nil && !s.first && begins(commandType(header)) {
		end := endCommand()
		s.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(end), bytes.NewReader(s.head), s.in), maxCommandSize)
		s.joins, header, size = true, end, len(end)
	}
	s.first = false
	s.lost = err != nil
	s.left, s.last = size, err == nil && size == commandHeaderSize && commandType(header) == CmdEnd
	return nil
}

func checkCommandHeader(header []byte) (int, error) {
	size, err := checkCommand(header)
	if errors.Is(err, errIncomplete) && len(header) == commandHeaderSize {
		return commandSize(header), nil
	}
	return size, err
}

func begins(t CommandType) bool { return t == CmdSubvol || t == CmdSnapshot }

func endCommand() []byte {
	c := make([]byte, commandHeaderSize)
	binary.LittleEndian.PutUint16(c[4:], uint16(CmdEnd))
	binary.LittleEndian.PutUint32(c[6:], checksum(c))
	return c
}
