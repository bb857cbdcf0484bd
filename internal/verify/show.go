package verify

import (
	"context"
	"fmt"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Shown is a Watcher that tells people what is found as it is found.
type Shown struct {
	Out     io.Writer
	Display *progress.Display
	Tell    func(kind, text string) // tells warnings
	Quiet   bool                    // show no more than progress
}

// Begin shows what is read.
func (s Shown) Begin(ctx context.Context, name string) (tell func(read, total int64), end func()) {
	shown := s.Display.Start(ctx, "reading "+name, nil)
	return func(read, total int64) {
		shown.Set(read)
		shown.SetTotal(progress.Total{Bytes: total})
	}, shown.Vanish
}

// Found prints a difference.
func (s Shown) Found(d tree.Difference) {
	if !s.Quiet {
		fmt.Fprintln(s.Out, Line(d))
	}
}

// Done sums a backup up. A failure is told by whoever asked.
func (s Shown) Done(r Result) {
	if s.Quiet || r.Failure != nil {
		return
	}
	if r.NotKept != "" {
		s.Tell("warning", fmt.Sprintf("%s: its manifest is not kept: %s", r.Backup, r.NotKept))
	}
	fmt.Fprintln(s.Out, r.Summary())
}
