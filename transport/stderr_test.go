package transport_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// recorder is a slog.Handler that keeps what is logged.
type recorder struct {
	mu      sync.Mutex
	levels  []slog.Level
	lines   []string
	longest int
	keep    int // lines
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }

func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.longest = max(r.longest, len(record.Message))
	if strings.HasPrefix(record.Message, "running ") || len(r.lines) == r.keep {
		return nil
	}
	r.levels = append(r.levels, record.Level)
	r.lines = append(r.lines, record.Message)
	return nil
}

func TestLinesOnStandardErrorAreLogged(t *testing.T) {
	log := &recorder{keep: 10}
	local := transport.Local{Log: slog.New(log), Level: slog.LevelWarn}
	const script = `printf 'one\n\n  two  \nthr' >&2; printf 'ee\nERROR: four\nfive' >&2`
	_, err := local.Output(t.Context(), "sh", "-c", script)
	check(t, err)
	if want := []string{"sh: one", "sh: two", "sh: three", "sh: ERROR: four", "sh: five"}; !slices.Equal(log.lines, want) {
		t.Errorf("logged %q, want %q", log.lines, want)
	}
	for _, level := range log.levels {
		if level != slog.LevelWarn {
			t.Errorf("logged at %s", level)
		}
	}
}

func TestAnEndlessLineOnStandardErrorTakesLittleMemory(t *testing.T) {
	const script = `head -c 100000000 /dev/zero | tr '\0' x >&2; exit 1`
	log := &recorder{keep: 2}
	local := transport.Local{Log: slog.New(log)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := local.Output(t.Context(), "sh", "-c", script)
	runtime.ReadMemStats(&after)

	var exit *transport.ExitError
	if !errors.As(err, &exit) || !strings.HasSuffix(exit.Stderr, "xxx") {
		t.Fatalf("error: %.100v", err)
	}
	const much = 32 << 20
	if len(exit.Stderr) > 1<<20 || log.longest > 1<<20 {
		t.Errorf("%d bytes in the error, %d in a line of the log", len(exit.Stderr), log.longest)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > much {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
