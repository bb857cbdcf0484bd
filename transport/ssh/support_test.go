package ssh_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 5 * time.Minute

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// recorder is a slog.Handler that keeps what is logged.
type recorder struct {
	mu     sync.Mutex
	levels []slog.Level
	lines  []string
	keep   int // lines
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }

func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !strings.HasPrefix(record.Message, "running ") && len(r.lines) < r.keep {
		r.levels = append(r.levels, record.Level)
		r.lines = append(r.lines, record.Message)
	}
	return nil
}

// waitForEnd waits until a process is gone or a zombie.
func waitForEnd(t testing.TB, pid int) {
	t.Helper()
	until(t, fmt.Sprintf("process %d ends", pid), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z")
	})
}
