package sendstream

import "iter"

// Commands gives the commands of a piece of a stream that begins and ends between two of them, behind the header. Each is checked by
// itself, and an error is the last that is given.
func Commands(piece []byte, protocol int) iter.Seq2[Command, error] {
	return func(yield func(Command, error) bool) {
		for len(piece) > 0 {
			n, err := checkCommand(piece)
			var c Command
			if err == errIncomplete {
				err = ErrTruncated
			}
			if err == nil {
				c, err = newCommand(piece[:n], protocol)
			}
			if !yield(c, err) || err != nil {
				return
			}
			piece = piece[n:]
		}
	}
}

// WithoutHeader gives what is behind the header of a stream, if the piece begins with it.
func WithoutHeader(piece []byte) []byte {
	if len(piece) >= streamHeaderSize && string(piece[:len(magic)]) == magic {
		return piece[streamHeaderSize:]
	}
	return piece
}
