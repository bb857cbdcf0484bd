package main

import (
	"log/slog"

	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
)

// newLog gives a log of the lines at a level and above. Log files get all.
func (e environment) newLog(level slog.Level) *slog.Logger {
	shown := &terminal.Lines{W: e.stderr, Level: level, Now: e.now, Clock: "15:04:05", Journal: e.journal}
	if e.files == nil {
		return slog.New(shown)
	}
	return slog.New(slog.NewMultiHandler(shown, e.files.debug))
}
