package volume

import (
	"context"
	"fmt"
	"io"

	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/stream"
)

// A sender is a folder that subvolumes are sent from.
type sender struct{ folder }

func (s *sender) checkProgram(ctx context.Context, of fmt.Stringer) error {
	_, err := s.host.Format(ctx)
	if err = programMissing(err); err != nil {
		return fmt.Errorf("source %s: %w", of, err)
	}
	return nil
}

// Send runs `btrfs send` and checks its output on the way to w.
func (s *sender) Send(ctx context.Context, t stream.Transfer, after sendstream.Prefix, w io.Writer) error {
	order := sendOrder(t)
	order.After, order.Wire, order.Verbose = after, t.Wire, s.Verbose
	summary, err := s.dir.Send(ctx, order, w)
	if summary.Restarts > 0 {
		s.Log.Warn("btrfs send was suspended and began again; the repeated part was dropped", "times", summary.Restarts)
	}
	return s.senderError(err)
}

// Measure runs `btrfs send --no-data`, which reads no file's content.
func (s *sender) Measure(ctx context.Context, t stream.Transfer) (progress.Total, error) {
	bytes, err := s.dir.Measure(ctx, sendOrder(t))
	return progress.Total{Bytes: bytes, AtMost: t.Format.Compressed}, s.senderError(err)
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
