package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"btrfs-backup/internal/progress"
)

// logHandler writes lines like those of earlier versions, which people's scripts look for:
//
//	04:48:03  [INFO ]  --[ Transferring ... ]----------------------------
//
// systemd's journal has a clock of its own, and takes a priority: see sd-daemon(3).
type logHandler struct {
	mu    sync.Mutex
	w     io.Writer
	level slog.Level
	now   func() time.Time

	clock   string // a layout of time.Format
	journal bool
}

// newLog gives a log of the lines at a level and above. Log files get all.
func (e environment) newLog(level slog.Level) *slog.Logger {
	shown := &logHandler{w: e.stderr, level: level, now: e.now, clock: "15:04:05", journal: e.journal}
	if e.files == nil {
		return slog.New(shown)
	}
	return slog.New(slog.NewMultiHandler(shown, e.files.debug))
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	level := r.Level.String()
	if r.Level == slog.LevelWarn {
		level = "WARNING"
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" (%s: %v)", a.Key, a.Value)
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	start := fmt.Sprintf("%s  [%-5s]  ", h.now().Format(h.clock), level)
	if h.journal {
		start = fmt.Sprintf("<%d>", priorityOf(r.Level))
	}
	_, err := io.WriteString(h.w, start+progress.Line(text)+"\n")
	return err
}

// priorityOf gives the priority of syslog(3) for a level.
func priorityOf(level slog.Level) int {
	return map[slog.Level]int{slog.LevelDebug: 7, slog.LevelInfo: 6, slog.LevelWarn: 4, slog.LevelError: 3}[level]
}

// WithAttrs and WithGroup are not used by this program.
func (h *logHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *logHandler) WithGroup(string) slog.Handler      { return h }

// heading sets a line apart from others.
func heading(text string) string {
	const width = 50
	line := "--[ " + text + " ]"
	return line + strings.Repeat("-", max(width-len(line), 3))
}
