// Package stream saves a snapshot by a send stream: the source writes it, a receiver takes it under a hidden name, and only what
// both ends and the listing of the destination agree on gets the name of a backup.
//
// A stream that a lost connection broke goes on where the receiver is. One that is bad although its sender ended well is sent once
// more from the start. What fails otherwise is removed.
package stream

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// A Sender is a source that writes send streams.
type Sender interface {
	// Origin describes the source, as it is recorded at a destination.
	Origin() host.Origin
	// Send writes the checked send stream to w. An error of w is returned as a *sendstream.WriteError.
	Send(ctx context.Context, t Transfer, after sendstream.Prefix, w io.Writer) error
	// Measure tells how many bytes Send will write in all.
	Measure(ctx context.Context, t Transfer) (progress.Total, error)
}

// An Attributed is a Sender that can tell of attributes that no stream holds.
type Attributed interface {
	// Attributes encodes an attributes.List: of all files of the snapshot, or of those that differ from the parent.
	Attributes(ctx context.Context, t Transfer, all bool) ([]byte, error)
}

// A Recorder is a Target that keeps such attributes.
type Recorder interface {
	// Keeps tells that it knows those of the parent.
	Keeps(parent btrfs.Subvolume) bool
}

// A Target is a destination that receives send streams.
type Target interface {
	String() string
	// Accepts gives the best format that the destination understands.
	Accepts(ctx context.Context) (sendstream.Format, error)
	// Receive begins to receive a backup. Its final name, that of the snapshot, must be free.
	Receive(ctx context.Context, t Transfer) (Receiver, error)
}

// A Verifier is a Target that can look at the received subvolume.
type Verifier interface {
	// Verify fails unless the received subvolume is the one that was sent.
	Verify(ctx context.Context, t Transfer, received btrfs.Subvolume) error
}

// A Transfer is a stream on which both ends agree.
type Transfer struct {
	engine.Transfer
	Format  sendstream.Format
	Measure func(ctx context.Context) (progress.Total, error)
	Wire    func(n int64) // is told of bytes that cross a network
	Copied  func(n int64) // is told of bytes that the receiver takes from elsewhere
	Taken   func(n int64) // is told by a Resumer of bytes that arrived, since Write only puts them on their way
}

// A Receiver takes one send stream. The backup stands under a hidden name until Commit. Close is called only when the whole
// stream was written, or to learn why the receiver ended. Commit or Abort must be called last.
type Receiver interface {
	io.Writer
	// Close ends the stream and describes the received subvolume.
	Close(ctx context.Context) (btrfs.Subvolume, error)
	// Commit puts the backup on disk and then under its final name, and records of what it is.
	Commit(ctx context.Context, of host.Origin) error
	// Abort ends receiving and removes the received part.
	Abort(ctx context.Context) error
}

// A Resumer is a Receiver that outlives a broken connection, and the run that began to send to it.
type Resumer interface {
	// Taken tells what the receiver has of the stream: before the first Write, what an earlier run left; after a Write
	// that failed with transport.ErrDisconnected, once the machine is reached again, where to go on.
	Taken(ctx context.Context) (sendstream.Prefix, error)
}

// A Keeper is a Resumer that keeps what it took also after other failures than a broken connection.
type Keeper interface {
	// Keep tells whether a later transfer goes on with what was taken in spite of a failure. If so, it ends receiving.
	Keep(failure error) bool
	// Keeps tells for how long a later transfer can.
	Keeps() time.Duration
}

// A Course is the way from a source to a destination.
type Course struct {
	From     Sender
	To       Target
	Log      *slog.Logger
	Progress *progress.Display
	Doing    string // what people are told that it does; "": sending
}
