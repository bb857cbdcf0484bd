// Package chain reads send streams that were stored as they are: from files, a pipe, or a command that gives one by the name of its
// snapshot. Their first commands tell of which snapshot each is and upon which it is built, so they may come in any order.
//
// A stream is checked on its way. Nothing is made here.
package chain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
)

// A Sender sends a stream that was stored.
type Sender struct {
	Link
	Behind *Link // the stream behind it in its input, when it was sent
}

var (
	_ stream.Sender     = (*Sender)(nil)
	_ stream.Attributed = (*Sender)(nil)
)

// Origin is unknown unless the input tells it: a stream does not tell of which subvolume its snapshot was taken.
func (s *Sender) Origin() host.Origin { return s.Link.Origin() }

// Attributes are unknown unless the input tells them.
func (s *Sender) Attributes(ctx context.Context, _ stream.Transfer, all bool) ([]byte, error) {
	if known := s.input.known; known != nil && !all {
		return known.Attributes, nil
	}
	return s.AllAttributes(ctx)
}

// Measure gives what is known before the stream is read.
func (s *Sender) Measure(context.Context, stream.Transfer) (total progress.Total, err error) {
	if total.Bytes = s.AtLeast(); total.Bytes == 0 {
		err = errors.New("the size of the stream is not known")
	}
	return total, err
}

// Send checks the stream on its way to w. It is read from its beginning in any case.
func (s *Sender) Send(_ context.Context, _ stream.Transfer, after sendstream.Prefix, w io.Writer) error {
	r, err := s.input.streamAt(s.index)
	if err != nil {
		return err
	}
	rest := sendstream.NewRemainder(w, after)
	summary, err := sendstream.Copy(rest, r)
	if err = cmp.Or(err, rest.Close()); err == nil && summary.UUID != s.UUID {
		err = fmt.Errorf("it has changed: it is of the snapshot %s now", progress.Name(summary.Name))
	}
	if err == nil {
		s.Behind, err = s.input.next(r) // for which a command is to end well
		return err
	}
	r.close()
	if errors.As(err, new(*sendstream.WriteError)) || errors.Is(err, sendstream.ErrPrefixDiffers) {
		return err
	}
	return s.input.damaged(err)
}

// Behind gives the stream behind this one in its input. All of this one is read for it.
func (l Link) Behind() (*Link, error) {
	r, err := l.input.streamAt(l.index)
	if err != nil {
		return nil, err
	}
	return l.input.next(r)
}

// next gives the next stream of an input that is being read, and keeps it for that; without one, the reading ends.
func (in *Input) next(r *reading) (*Link, error) {
	more, err := r.Next()
	if err != nil || !more {
		if r.close(); err != nil {
			err = in.damaged(err)
		}
		return nil, err
	}
	r.at++
	l, err := in.headOf(r)
	if err == nil {
		err = l.check()
	}
	if err != nil {
		r.close()
		return nil, err
	}
	in.opened = r
	return &l, nil
}

// Close ends the reading of inputs.
func Close(inputs []*Input) {
	for _, in := range inputs {
		if in.opened != nil {
			in.opened.close()
			in.opened = nil
		}
	}
}
