package chain

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// Known is a stream of which all is known before it is read.
type Known struct {
	Link       // but for its input
	Title      string
	Bytes      int64
	Origin     host.Origin // of what its snapshot was taken
	Wanted     bool        // it is that of the snapshot to be restored
	Attributes []byte      // what no stream holds, as stream.Attributed gives it; nil: unknown
	Complete   bool        // those are the attributes of all files, and not only of those that differ from the parent
	// All gives those of all files, where they are not.
	All  func(ctx context.Context) ([]byte, error)
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Stored is an input with a single stream.
func Stored(k Known) *Input {
	in := &Input{title: k.Title, open: k.Open, bytes: func() int64 { return k.Bytes }, known: &k}
	in.known.input = in
	return in
}

// Origin tells of what the snapshot was taken, as far as that is known.
func (l Link) Origin() (of host.Origin) {
	if l.input.known != nil {
		of = l.input.known.Origin
	}
	return of
}

// wanted tells that the snapshot is the one to be restored.
func (l Link) wanted() bool { return l.input.known != nil && l.input.known.Wanted }

// AllAttributes gives what no stream holds of all files; nil if nothing is known.
func (l Link) AllAttributes(ctx context.Context) ([]byte, error) {
	switch known := l.input.known; {
	case known == nil || known.Attributes == nil:
		return nil, nil
	case known.Complete:
		return known.Attributes, nil
	default:
		return known.All(ctx)
	}
}
