package sendstream

import (
	"cmp"
	"io"
)

// A Summary tells what a stream is and how much of it was passed on.
type Summary struct {
	Protocol int
	Bytes    int64 // stream header and END included
	Commands int64 // END included
	Restarts int   // times the sender began again and the repetition was dropped

	Name          string // of the subvolume sent
	UUID          [16]byte
	TransID       uint64
	ParentUUID    [16]byte // zero in a full stream
	ParentTransID uint64
}

// identify takes the identity from the first command of a stream.
//
// linux/fs/btrfs/send.c: send_subvol_begin
func (s *Summary) identify(command []byte) error {
	c, err := newCommand(command, s.Protocol)
	if err != nil {
		return err
	}
	if err := c.mustBegin(); err != nil {
		return err
	}
	var errs [5]error
	s.Name, errs[0] = c.Text(AttrPath)
	s.UUID, errs[1] = c.UUID(AttrUUID)
	s.TransID, errs[2] = c.Uint64(AttrCtransid)
	if c.Type == CmdSnapshot {
		s.ParentUUID, errs[3] = c.UUID(AttrCloneUUID)
		s.ParentTransID, errs[4] = c.Uint64(AttrCloneCtransid)
	}
	return cmp.Or(errs[:]...)
}

// Copy passes the stream from src on to dst and checks it on the way.
//
// Only whole commands with the right checksum are written, in batches that
// begin and end at a command boundary, one Write each; the first batch also
// holds the stream header. Each Read is followed by a Write of what is
// complete, except for END, which is written only after src has reached EOF
// right behind it. So dst has seen END exactly if the stream was good.
//
// If the sender began again, dst sees nothing of it, see Summary.Restarts.
//
// The Summary tells what was written, even if there is an error. The error is
// a *ReadError, a *WriteError, or wraps one of ErrEmpty, ErrTruncated,
// ErrCorrupt, ErrUnsupported and ErrRestartDiffers.
func Copy(dst io.Writer, src io.Reader) (Summary, error) {
	s := newScanner(src)
	for {
		written := s.sum
		batch, err := s.next()
		if err == io.EOF {
			return s.sum, nil
		}
		if err != nil {
			return s.sum, err
		}
		n, err := dst.Write(batch)
		if err == nil && n < len(batch) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return written, &WriteError{Err: err}
		}
	}
}
