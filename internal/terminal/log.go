package terminal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// Lines are those of a log, like those of earlier versions, which people's scripts look for:
//
//	04:48:03  [INFO ]  --[ Transferring ... ]----------------------------
//
// systemd's journal has a clock of its own, and takes a priority: see sd-daemon(3).
type Lines struct {
	W       io.Writer
	Level   slog.Level
	Now     func() time.Time
	Clock   string // a layout of time.Format
	Journal bool   // W goes to systemd's journal

	mu sync.Mutex
}

func (l *Lines) Enabled(_ context.Context, level slog.Level) bool { return level >= l.Level }

func (l *Lines) Handle(_ context.Context, r slog.Record) error {
	level := r.Level.String()
	if r.Level == slog.LevelWarn {
		level = "WARNING"
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" (%s: %v)", a.Key, a.Value)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	start := fmt.Sprintf("%s  [%-5s]  ", l.Now().Format(l.Clock), level)
	if l.Journal {
		start = fmt.Sprintf("<%d>", Priority(r.Level))
	}
	_, err := io.WriteString(l.W, start+progress.Line(text)+"\n")
	return err
}

// Priority gives the priority of syslog(3) for a level.
func Priority(level slog.Level) int {
	return map[slog.Level]int{slog.LevelDebug: 7, slog.LevelInfo: 6, slog.LevelWarn: 4, slog.LevelError: 3}[level]
}

// WithAttrs and WithGroup are not used by this program.
func (l *Lines) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *Lines) WithGroup(string) slog.Handler      { return l }

// Heading sets a line apart from others.
func Heading(text string) string {
	const width = 50
	line := "--[ " + text + " ]"
	return line + strings.Repeat("-", max(width-len(line), 3))
}
