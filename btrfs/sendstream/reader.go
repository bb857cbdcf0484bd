package sendstream

import "io"

// A Reader reads the commands of a stream one after the other. It checks as
// much as Copy, and like Copy it leaves out what a restarted sender repeats.
type Reader struct {
	scanner *scanner
	batch   []byte // commands not yet returned
	begun   bool
}

// NewReader returns a Reader that reads from src, also ahead.
func NewReader(src io.Reader) *Reader {
	return &Reader{scanner: newScanner(src)}
}

// Next returns the next command, whose Data is valid until the following call.
// The last command is END, after which Next returns io.EOF; without END the
// stream is not complete. Errors are those of Copy, and final.
func (r *Reader) Next() (Command, error) {
	if len(r.batch) == 0 {
		batch, err := r.scanner.next()
		if err != nil {
			return Command{}, err
		}
		if !r.begun {
			batch = batch[streamHeaderSize:]
			r.begun = true
		}
		r.batch = batch
	}
	n := commandSize(r.batch)
	c, err := newCommand(r.batch[:n], r.scanner.sum.Protocol)
	if err != nil {
		r.batch, r.scanner.err = nil, err
		return Command{}, err
	}
	r.batch = r.batch[n:]
	return c, nil
}

// Summary tells what was read so far, ahead too.
func (r *Reader) Summary() Summary { return r.scanner.sum }
