package volume

import (
	"context"
	"io"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
)

// A sender is a folder that subvolumes are sent from.
type sender struct{ folder }

// snapshots gives the folder, as one that data can be taken from.
func (s *sender) snapshots() host.Snapshots { return s.dir.Snapshots }

// Send lets the kernel send, and checks what comes on the way to w.
func (s *sender) Send(ctx context.Context, t stream.Transfer, after sendstream.Prefix, w io.Writer) error {
	order := sendOrder(t)
	order.After, order.Wire, order.Verbose = after, t.Wire, s.Verbose
	summary, err := s.dir.Send(ctx, order, w)
	if summary.Restarts > 0 {
		s.Log.Warn("the kernel was interrupted while it sent, and began again; the repeated part was dropped", "times", summary.Restarts)
	}
	return s.senderError(err)
}

// Measure lets the kernel send without data, for which it reads no file's content.
func (s *sender) Measure(ctx context.Context, t stream.Transfer) (progress.Total, error) {
	bytes, err := s.dir.Measure(ctx, sendOrder(t))
	return progress.Total{Bytes: bytes, AtMost: t.Format.Compressed && !t.Format.NoData}, s.senderError(err)
}

// Attributes tells of those that no stream holds.
func (s *sender) Attributes(ctx context.Context, t stream.Transfer, all bool) ([]byte, error) {
	parent := t.ParentName()
	if all {
		parent = ""
	}
	l, err := s.dir.Attributes(ctx, t.Snapshot.Name, parent)
	if err != nil {
		return nil, err
	}
	return l.Encode()
}

func sendOrder(t stream.Transfer) host.SendOrder {
	return host.SendOrder{Snapshot: t.Snapshot.Name, Parent: t.ParentName(), Format: t.Format}
}
