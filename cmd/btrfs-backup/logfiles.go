package main

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/logfile"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
)

// logFiles are those that a configuration asks for: one has a line for each outcome of a job, one has everything.
type logFiles struct {
	info  io.Writer
	debug slog.Handler
}

const (
	infoLimit  = 1 << 20
	debugLimit = 10 << 20
	logDate    = "2006-01-02 15:04:05 -0700"
)

// withLogFiles gives the environment whose lines also go to files in a directory, and closes these. Nothing fails because they
// cannot be written.
func (e environment) withLogFiles(dir string) (environment, func()) {
	info, err := logfile.Open(filepath.Join(dir, "info.log"), infoLimit)
	if err != nil {
		e.warnOfLog(err)
		return e, func() {}
	}
	debug, err := logfile.Open(filepath.Join(dir, "debug.log"), debugLimit)
	if err != nil {
		e.warnOfLog(err)
		_ = info.Close() // nothing was written
		return e, func() {}
	}
	e.files = &logFiles{info, &terminal.Lines{W: debug, Level: slog.LevelDebug, Now: e.now, Clock: logDate}}
	return e, func() {
		_, _ = info.Close(), debug.Close() // what could not be written is lost
	}
}

func (e environment) warnOfLog(err error) {
	e.newLog(slog.LevelWarn).Warn(fmt.Sprintf("nothing is logged to files: %v", err))
}

// logOutcome tells the log files how a job ended.
func (e environment) logOutcome(job, outcome string) {
	if e.files == nil {
		return
	}
	line := progress.Line(job + ": " + outcome)
	slog.New(e.files.debug).Info(line)
	_, _ = fmt.Fprintf(e.files.info, "%s  %s\n", e.now().Format(logDate), line) // no reason to fail
}
