package engine

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakePart is a directory in a subvolume, from which paths are left out.
type fakePart struct {
	fakeDirectory
	omitted []string
}

func (p fakePart) Omitted(context.Context) ([]string, error) { return p.omitted, nil }
func (fakePart) Within(context.Context) string               { return "/home" }

func TestWhatIsLeftOutIsToldAgainOnlyWhenItChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	tell := func(omitted []string, changes ...func(*Job)) (said string) {
		var text bytes.Buffer
		r, err := Run(t.Context(), copyJobOf(newMirror(), append(changes, func(j *Job) {
			j.Source, j.State.Dir, j.Log = fakePart{omitted: omitted}, dir, slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})...))
		if err != nil || len(r.Omitted) != len(omitted) {
			t.Fatalf("the report names %q, %v", r.Omitted, err)
		}
		return text.String()
	}
	automatic := func(j *Job) { j.Automatic = true }
	five := []string{"a", "b", "c", "d", "e"}
	lost := func() { _ = os.RemoveAll(dir) }
	for i, step := range []struct {
		before  func()
		omitted []string
		change  func(*Job)
		says    []string
	}{
		{omitted: five, says: []string{`\"a\" \"b\" \"c\" and 2 more`}},
		{omitted: five},
		{omitted: five, change: func(j *Job) { j.DryRun = true }, says: []string{"and 2 more"}},
		{omitted: append([]string{"new"}, five...), says: []string{`\"new\"`, "and 3 more"}},
		{omitted: nil},
		{omitted: five, says: []string{"and 2 more"}},
		{omitted: five, change: automatic, says: []string{"and 2 more", "directory of the subvolume /home"}},
		{omitted: five, change: automatic},
		{before: lost, omitted: five, change: automatic, says: []string{"and 2 more", "directory of the subvolume /home"}},
		{omitted: nil, change: automatic, says: []string{"directory of the subvolume /home"}},
	} {
		if step.before != nil {
			step.before()
		}
		change := step.change
		if change == nil {
			change = func(*Job) {}
		}
		said := tell(step.omitted, change)
		for _, says := range step.says {
			if !strings.Contains(said, says) {
				t.Errorf("step %d says %q, want %q", i, said, says)
			}
		}
		if lines := strings.Count(said, "\n"); lines != len(step.says) && !(i == 3 && lines == 1) {
			t.Errorf("step %d says %q", i, said)
		}
	}
}
