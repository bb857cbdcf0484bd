package report

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestRunsAreReadNewestFirstWithoutWhatIsDamaged(t *testing.T) {
	h := History{Dir: t.TempDir(), Limit: DefaultLimit}
	if runs, err := h.Runs(); len(runs) != 0 || err != nil {
		t.Fatalf("of no history: %v, %v", runs, err)
	}
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i, outcome := range []engine.Outcome{engine.Done, engine.Failed} {
		run := Run{Time: begun.AddDate(0, 0, i), Job: "home", Source: "/home", Outcome: outcome, Status: i}
		if i == 1 {
			run.Failures = []engine.Failure{{Err: hint.New(errors.New("no such file"), "check the spelling")}}
		}
		if err := h.Add(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(h.Dir, HistoryFile), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("{\"time\": \"2026-0\n{}\nnull\n")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	runs, err := h.Runs()
	if err != nil || len(runs) != 2 {
		t.Fatalf("%v, %v", runs, err)
	}
	last := runs[0]
	if last.Outcome != engine.Failed || last.Job != "home" || !last.Time.Equal(begun.AddDate(0, 0, 1)) || runs[1].Outcome != engine.Done {
		t.Errorf("runs: %+v", runs)
	}
	if err := last.Failures[0].Err; err.Error() != "no such file" || hint.Of(err) != "check the spelling" {
		t.Errorf("its failure: %v (%s)", err, hint.Of(err))
	}
}
