// Package mirror copies directories of any filesystem by rsync, into dated backups in a folder on any host (Destination), or into
// the module of an rsync daemon (Daemon).
//
// rsync does the copying, and is given its arguments as a vector. Its failures are translated into errors that say what to do.
// It is taken at its word only where that is safe: a copy is complete when rsync says so (exit status 0, or 24 for files that
// vanished meanwhile) and the source is still what it should be; it is incomplete (23) when every complaint is about something
// that could not be read at the source, or an attribute that the destination cannot store; else there is no backup. After a
// failure, the partial copy stays for the next run to resume.
package mirror

import (
	"context"
	"log/slog"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"

	"golang.org/x/time/rate"
)

// Options are common to the mirrors of a run.
type Options struct {
	Log      *slog.Logger
	Progress *progress.Display // nil: not shown
	Limit    rate.Limit        // bytes per second, which rsync rounds to KiB; 0: as many as go
	Rsync    []string          // rsync's options in place of the default ones, as options.Split gives them; nil for those
	Filters  []string          // rsync's --exclude=..., --include=... and so on, in their order

	MaxDelete int   // percent of the files of the backup before that may be missing
	Dedup     *bool // nil: where hard links are used
	// StallTimeout is how long an rsync all of whose processes run here may make no progress; 0 for ever.
	StallTimeout time.Duration
	MountPoint   string // that a folder must lie on; "" for any
}

// show shows something that moves at most so many bytes until it is done.
func (o Options) show(ctx context.Context, title string, atMost int64) *progress.Transfer {
	return o.Progress.Start(ctx, title, func(context.Context) (progress.Total, error) {
		return progress.Total{Bytes: atMost, AtMost: true}, nil
	})
}
