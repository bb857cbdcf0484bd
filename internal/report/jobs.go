package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// Jobs tell what a run of several jobs did.
type Jobs struct {
	Jobs     []JobResult      `json:"jobs"`
	Failures []engine.Failure `json:"failures,omitempty"` // around the jobs
	Outcome  engine.Outcome   `json:"outcome"`
	Status   int              `json:"exit_status"`
}

// A JobResult tells of one of them.
type JobResult struct {
	Job      string           `json:"job"`
	Skipped  string           `json:"skipped,omitempty"` // why it was not run
	Took     time.Duration    `json:"-"`
	Result   *Result          `json:"result,omitempty"`
	Failures []engine.Failure `json:"around,omitempty"` // of what is around it
}

// AllFailures gives every failure of the job.
func (j JobResult) AllFailures() []engine.Failure {
	if j.Result == nil {
		return j.Failures
	}
	return append(j.Result.AllFailures(), j.Failures...)
}

// WriteTable sums the jobs up, in a table with a line for each transfer, for a terminal of that width.
func (j Jobs) WriteTable(w io.Writer, width int) error {
	rows := [][]string{append([]string{"JOB"}, columns...)}
	for _, one := range j.Jobs {
		switch {
		case one.Skipped != "":
		case one.Result == nil || len(one.Result.Destinations) == 0:
			rows = append(rows, []string{one.Job, "", one.snapshot(), "", "", "", one.verdict()})
		default:
			for _, row := range rowsOf(one.Result.Report) {
				rows = append(rows, append([]string{one.Job}, row...))
			}
		}
	}
	if len(rows) > 1 {
		Fit(rows, 1, width)
		if err := WriteColumns(w, rows); err != nil {
			return err
		}
	}
	return j.WriteSkipped(w)
}

// WriteSkipped tells in a line each why jobs were not run.
func (j Jobs) WriteSkipped(w io.Writer) error {
	for _, one := range j.Jobs {
		if one.Skipped == "" {
			continue
		}
		if _, err := io.WriteString(w, progress.Line(one.Job+": "+one.Skipped)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func (j JobResult) snapshot() string {
	if j.Result == nil {
		return ""
	}
	return j.Result.Snapshot
}

func (j JobResult) verdict() string {
	failures := j.AllFailures()
	switch {
	case len(failures) == 0:
		return "snapshot"
	case slices.ContainsFunc(failures, func(f engine.Failure) bool { return !lock.IsHeld(f.Err) }):
		return "FAILED"
	}
	return "busy"
}

// Text tells the jobs to people, in a line each and one for each failure.
func (j Jobs) Text() string {
	var text strings.Builder
	tell := func(title string, failures []engine.Failure) {
		for _, f := range failures {
			fmt.Fprintf(&text, "%s%v\n", title, f.Err)
			if forward := hint.Of(f.Err); forward != "" {
				fmt.Fprintf(&text, "%shint: %s\n", title, forward)
			}
		}
	}
	failedFirst := slices.SortedStableFunc(slices.Values(j.Jobs), func(a, b JobResult) int {
		return cmp.Compare(min(len(b.AllFailures()), 1), min(len(a.AllFailures()), 1))
	})
	for _, one := range failedFirst {
		switch {
		case one.Skipped != "":
			fmt.Fprintf(&text, "%s: not run: %s\n", one.Job, one.Skipped)
		case one.Result != nil:
			run := Summarize(*one.Result)
			run.Duration = one.Took
			fmt.Fprintf(&text, "%s: %s\n", one.Job, run.Line())
		}
		tell(one.Job+": ", one.AllFailures())
	}
	tell("", j.Failures)
	return text.String()
}
