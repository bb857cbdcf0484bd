package main

import (
	"fmt"
	"log/slog"

	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
)

// newLog gives a log of the lines at a level and above. Log files get all.
func (e environment) newLog(level slog.Level) *slog.Logger {
	shown := &terminal.Lines{W: e.stderr, Level: level, Now: e.now, Clock: "15:04:05", Journal: e.journal}
	if e.files == nil {
		return slog.New(shown)
	}
	return slog.New(slog.NewMultiHandler(shown, e.files.Handler()))
}

// withLogFiles gives the environment whose lines also go to files in a directory, and closes these. Nothing fails because they
// cannot be written.
func (e environment) withLogFiles(dir string) (environment, func()) {
	files, err := terminal.OpenFiles(dir, e.now)
	if err != nil {
		e.newLog(slog.LevelWarn).Warn(fmt.Sprintf("nothing is logged to files: %v", err))
		return e, func() {}
	}
	e.files = files
	return e, files.Close
}
