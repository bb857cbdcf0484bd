package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logHandler writes lines like those of earlier versions, which people's scripts look for:
//
//	04:48:03  [INFO ]  --[ Transferring ... ]----------------------------
type logHandler struct {
	mu    sync.Mutex
	w     io.Writer
	level slog.Level
	now   func() time.Time
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	level := r.Level.String()
	if r.Level == slog.LevelWarn {
		level = "WARNING"
	}
	text := strings.ReplaceAll(r.Message, "\n", "; ")
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" (%s: %v)", a.Key, a.Value)
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.w, "%s  [%-5s]  %s\n", h.now().Format("15:04:05"), level, text)
	return err
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
