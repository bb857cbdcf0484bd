package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Run is what the history tells of a run: one line of JSON.
type Run struct {
	Time         time.Time        `json:"time"`          // of its beginning
	Job          string           `json:"job,omitempty"` // of a configuration
	Duration     time.Duration    `json:"nanoseconds"`
	Source       string           `json:"source"`
	Outcome      engine.Outcome   `json:"outcome"`
	Status       int              `json:"exit_status"`
	Snapshot     string           `json:"snapshot,omitempty"` // the one taken
	Skipped      string           `json:"skipped,omitempty"`  // why a hook did not want it
	Destinations []Destination    `json:"destinations,omitempty"`
	Failures     []engine.Failure `json:"failures,omitempty"` // at the source, and what ended the run
}

// Destination is what the history tells of one destination.
type Destination struct {
	Destination string           `json:"destination"`
	Absent      string           `json:"absent,omitempty"`
	Saved       []string         `json:"saved,omitempty"`      // the names of the backups
	Bytes       int64            `json:"bytes,omitempty"`      // of what was saved
	Free        *uint64          `json:"free_bytes,omitempty"` // that could be written when the run began
	Deleted     []string         `json:"deleted,omitempty"`
	Failures    []engine.Failure `json:"failures,omitempty"`
}

// A Result is a report for other programs, and how the run ended.
type Result struct {
	*engine.Report
	Outcome engine.Outcome `json:"outcome"`
	Status  int            `json:"exit_status"`
}

// Summarize gives what the history is to tell of a run.
func Summarize(r Result) Run {
	run := Run{Source: r.Source, Snapshot: r.Snapshot, Skipped: r.Skipped, Outcome: r.Outcome, Status: r.Status}
	var failures []engine.Failure
	for _, part := range r.Parts() {
		failures = append(failures, part.Failures...)
	}
	run.Failures = some(failures)
	for _, d := range r.AllDestinations() {
		told := summarize(d)
		i := slices.IndexFunc(run.Destinations, func(o Destination) bool { return d.OfSet && o.Destination == d.Destination })
		if i < 0 {
			run.Destinations = append(run.Destinations, told)
		} else { // of a recursive run, it has the backups of the source itself
			run.Destinations[i].Failures = some(append(run.Destinations[i].Failures, told.Failures...))
		}
	}
	return run
}

func summarize(d engine.DestinationReport) Destination {
	told := Destination{Destination: d.Destination, Absent: d.Absent, Deleted: d.Deleted, Free: d.Free}
	var failures []engine.Failure
	for _, t := range d.Transfers {
		if t.Failure != nil {
			failures = append(failures, *t.Failure)
			continue
		}
		told.Saved = append(told.Saved, t.Snapshot)
		told.Bytes += t.Bytes
		if t.Incomplete != nil {
			failures = append(failures, *t.Incomplete)
		}
	}
	for _, s := range d.Sets {
		if len(s.Lacks) == 0 {
			told.Saved = append(told.Saved, s.Name)
		}
	}
	told.Failures = some(append(failures, d.Failures...))
	return told
}

// some keeps the line of a run short in which everything failed.
func some(failures []engine.Failure) []engine.Failure {
	const most = 10
	return slices.Clone(failures[:min(len(failures), most)])
}

// A History is a file with a line for each run, the newest last. When it grows beyond its limit, the older half goes.
type History struct {
	Dir   string // is made if it is missing
	Limit int64  // in bytes
}

// HistoryFile is the name of the history in its directory.
const HistoryFile = "history.jsonl"

// DefaultLimit has room for some thousand runs.
const DefaultLimit = 1 << 20

// Add adds a run and puts it on disk. Programs that add at the same time wait for each other. A line that a power failure cut
// off stays as it is, and what follows has lines of its own.
func (h History) Add(ctx context.Context, run Run) error {
	line, err := json.Marshal(run)
	if err != nil {
		return err
	}
	return lock.InDir(ctx, h.Dir, func() error { return h.add(append(line, '\n')) })
}

// Runs gives the runs on record, newest first. Lines that are damaged are left out.
func (h History) Runs() ([]Run, error) {
	content, err := os.ReadFile(h.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var runs []Run
	for line := range bytes.Lines(content) {
		var run Run
		if json.Unmarshal(line, &run) == nil && !run.Time.IsZero() {
			runs = append(runs, run)
		}
	}
	slices.Reverse(runs)
	return runs, nil
}

// Changed gives the time at which a run was added last; zero if none was.
func (h History) Changed() time.Time {
	info, err := os.Stat(h.path())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// FailuresOf gives the times at which a job failed since it was last done, newest first as the runs are.
func FailuresOf(job string, runs []Run) (failures []time.Time) {
	for _, run := range runs {
		switch {
		case run.Job != job:
		case run.Outcome == engine.Done:
			return failures
		case run.Outcome == engine.Failed, run.Outcome == engine.Partly:
			failures = append(failures, run.Time)
		}
	}
	return failures
}

func (h History) path() string { return filepath.Join(h.Dir, HistoryFile) }

func (h History) add(line []byte) error {
	f, err := os.OpenFile(h.path(), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size+int64(len(line)) > h.Limit {
		return h.rewrite(f, max(size-h.Limit/2, 0), line)
	}
	last := []byte{'\n'}
	if size > 0 {
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
	}
	if last[0] != '\n' { // a power failure cut it off
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	return f.Sync()
}

// rewrite replaces the file by its lines behind an offset, and one more.
func (h History) rewrite(f *os.File, offset int64, line []byte) error {
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	_, content, _ = bytes.Cut(content, []byte{'\n'}) // which may be a part of a line
	if len(content) > 0 && content[len(content)-1] != '\n' {
		content = append(content, '\n')
	}
	return lock.WriteFile(h.path(), append(content, line...))
}
