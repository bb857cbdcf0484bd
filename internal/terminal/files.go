package terminal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/logfile"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

const (
	infoLimit  = 1 << 20
	debugLimit = 10 << 20
	logDate    = "2006-01-02 15:04:05 -0700"
)

// Files are those that a configuration asks for: one has a line for each outcome of a job, one has everything.
type Files struct {
	Info  io.WriteCloser
	Debug io.WriteCloser
	Now   func() time.Time
}

// OpenFiles opens, or makes, those in a directory.
func OpenFiles(dir string, now func() time.Time) (*Files, error) {
	info, err := logfile.Open(filepath.Join(dir, "info.log"), infoLimit)
	if err != nil {
		return nil, err
	}
	debug, err := logfile.Open(filepath.Join(dir, "debug.log"), debugLimit)
	if err != nil {
		return nil, errors.Join(err, info.Close())
	}
	return &Files{info, debug, now}, nil
}

// Close closes them. What could not be written is lost.
func (f *Files) Close() { _, _ = f.Info.Close(), f.Debug.Close() }

// Handler gives what the file with everything is logged to by.
func (f *Files) Handler() slog.Handler {
	return &Lines{W: f.Debug, Level: slog.LevelDebug, Now: f.Now, Clock: logDate}
}

// Outcome writes to both how something ended. That they cannot be written is no reason to fail.
func (f *Files) Outcome(line string) {
	slog.New(f.Handler()).Info(line)
	_, _ = fmt.Fprintf(f.Info, "%s  %s\n", f.Now().Format(logDate), progress.Line(line))
}
