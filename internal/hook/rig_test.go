package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 5 * time.Minute

// testOnlyRun makes a child process that runs this test binary carry out a Runner, given as JSON, in one phase.
const testOnlyRun = "BTRFS_BACKUP_TEST_HOOKS"

func TestMain(m *testing.M) {
	if text := os.Getenv(testOnlyRun); text != "" {
		var r Runner
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			panic(err)
		}
		r.Log = slog.New(slog.DiscardHandler)
		err := r.Before(context.Background(), Snapshot)
		os.Exit(map[bool]int{true: 0, false: 1}[err == nil && r.After(context.Background(), Snapshot, "", nil) == nil])
	}
	os.Exit(m.Run())
}

// rig is a Runner whose hooks write into a diary.
type rig struct {
	t testing.TB
	*Runner
	dir string
	mu  sync.Mutex
	log []string // "LEVEL message"
}

func newRig(t testing.TB, hooks ...Hook) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	r.Runner = &Runner{Hooks: hooks, Job: "home", Source: "/home", Destinations: []string{"/a", "nas:/b"}, Log: slog.New(r), Dir: filepath.Join(r.dir, "run")}
	for i, h := range r.Hooks {
		for _, argv := range [][]string{h.Before, h.After} {
			for n, word := range argv {
				argv[n] = strings.ReplaceAll(word, "DIARY", r.diary())
			}
		}
		r.Hooks[i] = h
	}
	return r
}

func (r *rig) diary() string { return filepath.Join(r.dir, "diary") }

func (r *rig) Enabled(context.Context, slog.Level) bool { return true }
func (r *rig) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *rig) WithGroup(string) slog.Handler            { return r }
func (r *rig) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, record.Level.String()+" "+record.Message)
	return nil
}

// logged tells whether a line of the log at that level has the text in it.
func (r *rig) logged(level slog.Level, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.log {
		if strings.HasPrefix(line, level.String()+" ") && strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// noted are the afters on disk.
func (r *rig) noted() []note {
	r.t.Helper()
	notes, err := read(r.Dir)
	if _, missing := os.Stat(r.Dir); missing != nil {
		return nil
	}
	check(r.t, err)
	return notes
}

// want fails the test unless the hooks wrote these words.
func (r *rig) want(words ...string) {
	r.t.Helper()
	content, err := os.ReadFile(r.diary())
	if err != nil && len(words) > 0 {
		r.t.Fatal(err)
	}
	if got, want := strings.Join(strings.Fields(string(content)), " "), strings.Join(words, " "); got != want {
		r.t.Errorf("what ran: %s\nwant:     %s", got, want)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sh is a hook's program that does what a shell does.
func sh(script string) []string { return []string{"sh", "-c", script} }

// write is one that writes a word into the diary, and fails with the status.
func write(word string, status int) []string {
	return sh(fmt.Sprintf("echo %s >>'DIARY'; exit %d", word, status))
}

type variation func(*Hook)

// around makes a hook whose before and after write that they ran.
func around(name string, phase Phase, changes ...variation) Hook {
	h := Hook{Name: name, Before: write("+"+name, 0), After: write("-"+name, 0), Around: string(phase)}
	for _, c := range changes {
		c(&h)
	}
	return h
}

func beforeFails(status int) variation {
	return func(h *Hook) { h.Before = write("+"+h.Name, status) }
}
func afterFails(h *Hook) { h.After = write("-"+h.Name, 1) }
func critical(h *Hook)   { h.Critical = true }
func optional(h *Hook)   { h.Optional = true }
