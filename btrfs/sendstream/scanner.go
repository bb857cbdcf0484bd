package sendstream

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
)

// restartSlack is how far behind a failed command a restart may begin: the
// sender can be stopped again while it writes the header of the new stream.
const restartSlack = 4 * streamHeaderSize

// stage says what a scanner expects next.
type stage int

const (
	wantStreamHeader stage = iota
	wantFirstCommand
	wantCommand
	ended
)

// scanner cuts a stream into batches of checked commands. It recognises
// restarts and leaves the repetition out.
type scanner struct {
	in           input
	stage        stage
	held         int // bytes at the start of in that are checked and not yet in a batch
	heldCommands int // commands among them
	sum          Summary
	err          error // final

	// The repetition behind a restart is compared by its headers: each holds
	// the type, the length and the checksum of its command. There is no
	// adversary, the sender either repeats itself or, say after a
	// deduplication, sends something visibly different.
	passed   maphash.Hash // of the headers of all batches
	repeated maphash.Hash // of those of the repetition so far
	repeat   int64        // bytes of the repetition still to come
}

func newScanner(src io.Reader) *scanner {
	s := &scanner{in: newInput(src)}
	s.repeated.SetSeed(s.passed.Seed())
	return s
}

// next returns the next batch, which is valid until the following call. The
// first one begins with the stream header and holds a command, the last one
// ends with END and is followed by io.EOF. After an error there are no more
// batches.
func (s *scanner) next() (batch []byte, err error) {
	if s.err != nil {
		return nil, s.err
	}
	batch, s.err = s.scan()
	return batch, s.err
}

func (s *scanner) scan() ([]byte, error) {
	for s.stage != ended {
		n, err := s.peek()
		if err == nil {
			if err := s.accept(n); err != nil {
				return nil, err
			}
			continue
		}
		if batch := s.take(); batch != nil {
			return batch, nil
		}
		if errors.Is(err, errIncomplete) {
			err = s.in.fill()
		} else {
			err = s.restart(n, err)
		}
		if err != nil {
			return nil, err
		}
	}
	if batch := s.take(); batch != nil {
		return batch, nil
	}
	return nil, io.EOF
}

// peek checks what follows the held bytes. It returns its size, or with any
// other error than errIncomplete the size of the bytes at fault.
func (s *scanner) peek() (int, error) {
	rest := s.in.bytes()[s.held:]
	n, err := s.check(rest)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, errIncomplete):
		return n, s.at(err)
	case !s.in.eof:
		return 0, errIncomplete
	case s.in.offset == 0 && len(s.in.bytes()) == 0:
		return 0, ErrEmpty
	default:
		return len(rest), s.at(ErrTruncated)
	}
}

func (s *scanner) check(rest []byte) (int, error) {
	if s.stage == wantStreamHeader {
		return checkStreamHeader(rest)
	}
	n, err := checkCommand(rest)
	if err != nil || commandType(rest) != CmdEnd {
		return n, err
	}
	if len(rest) > n {
		return n, fmt.Errorf("%w: data behind the end command", ErrCorrupt)
	}
	if !s.in.eof {
		return 0, errIncomplete
	}
	return n, nil
}

// at adds to err where in the input it happened.
func (s *scanner) at(err error) error {
	return fmt.Errorf("%w, at byte %d", err, s.in.offset+int64(s.held))
}

// accept moves past n checked bytes, a stream header or a command.
func (s *scanner) accept(n int) error {
	unit := s.in.bytes()[s.held:][:n]
	if s.repeat > 0 {
		if err := s.compare(unit); err != nil {
			return s.at(err)
		}
		s.in.discard(n)
	} else {
		if err := s.describe(unit); err != nil {
			return s.at(err)
		}
		s.passed.Write(unit[:min(len(unit), streamHeaderSize)])
		s.held += n
	}
	s.advance(unit)
	return nil
}

func (s *scanner) advance(unit []byte) {
	switch {
	case s.stage == wantStreamHeader:
		s.stage = wantFirstCommand
	case commandType(unit) == CmdEnd:
		s.stage = ended
	default:
		s.stage = wantCommand
	}
}

// describe notes down what the stream says of itself.
func (s *scanner) describe(unit []byte) error {
	if s.stage == wantStreamHeader {
		s.sum.Protocol = protocolOf(unit)
		return nil
	}
	s.heldCommands++
	if s.stage == wantFirstCommand {
		if err := s.sum.identify(unit); err != nil {
			return err
		}
	}
	return nil
}

// take returns the held bytes as a batch, unless they hold no command yet.
func (s *scanner) take() []byte {
	if s.heldCommands == 0 {
		return nil
	}
	batch := s.in.bytes()[:s.held]
	s.sum.Bytes += int64(s.held)
	s.sum.Commands += int64(s.heldCommands)
	s.in.discard(s.held)
	s.held, s.heldCommands = 0, 0
	return batch
}

// compare takes one more unit of the repetition into account.
func (s *scanner) compare(unit []byte) error {
	s.repeated.Write(unit[:min(len(unit), streamHeaderSize)])
	s.repeat -= int64(len(unit))
	if s.repeat < 0 || s.repeat == 0 && s.repeated.Sum64() != s.passed.Sum64() {
		return ErrRestartDiffers
	}
	if s.stage != wantStreamHeader && commandType(unit) == CmdEnd {
		// END is passed on last of all, so no repetition can hold it.
		return ErrRestartDiffers
	}
	return nil
}

// restart looks for the stream header of a restart within or right behind the
// n bytes that could not be used because of cause. It returns cause if there
// is none.
func (s *scanner) restart(n int, cause error) error {
	for limit := n + restartSlack + streamHeaderSize; ; {
		rest := s.in.bytes()[s.held:]
		if i := indexStreamHeader(rest[:min(len(rest), limit)]); i >= 0 {
			s.beginAgain(i)
			return nil
		}
		if s.in.eof || len(rest) >= limit {
			return cause
		}
		if err := s.in.fill(); err != nil {
			return err
		}
	}
}

// beginAgain expects, skip bytes further on, a repetition of all batches.
func (s *scanner) beginAgain(skip int) {
	s.in.discard(s.held + skip)
	s.held = 0
	s.stage = wantStreamHeader
	s.sum.Restarts++
	s.repeat = s.sum.Bytes
	s.repeated.Reset()
	if s.repeat == 0 {
		s.passed.Reset() // what was held is gone
	}
}
