package standing

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// WriteTable shows jobs to people, on a terminal of that width: a line for each destination, then the last run, and
// how there will be a backup where there never was one.
func WriteTable(w io.Writer, jobs []Job, now time.Time, width int) error {
	rows := [][]string{{"JOB", "DESTINATION", "NEWEST", "AGE", "KEPT", "FREE", "STATE"}}
	var notes []string
	var isNew bool
	for _, j := range jobs {
		for _, p := range j.Places {
			rows = append(rows, p.row(j.Name, now))
			isNew = isNew || p.State == Never && p.Asked
			if p.Warning != "" {
				notes = append(notes, fmt.Sprintf("%s: %s: %s", j.Name, p.Name(), p.Warning))
			}
		}
	}
	report.Fit(rows, 1, width)
	if err := report.WriteColumns(w, rows); err != nil {
		return err
	}
	for _, j := range lastRuns(jobs) {
		notes = append(notes, fmt.Sprintf("last run: %s, %s: %s", j.LastRun.Time.Local().Format("2006-01-02 15:04"), j.Name, j.LastRun.Line()))
	}
	if isNew {
		notes = append(notes, "NEVER: `btrfs-backup run` makes the first backup")
	}
	for _, note := range notes {
		if _, err := fmt.Fprintln(w, progress.Line(note)); err != nil {
			return err
		}
	}
	return nil
}

// Name gives the place in its shortest form that the configuration takes.
func (p Place) Name() string {
	if p.Destination == "" {
		return "(snapshots)"
	}
	machine, path, _ := strings.Cut(strings.TrimPrefix(p.Destination, "ssh://"), "/")
	if isFar := strings.HasPrefix(p.Destination, "ssh://"); isFar && !strings.Contains(machine, ":") {
		return machine + ":/" + path
	}
	return p.Destination
}

func (p Place) row(job string, now time.Time) []string {
	newest, kept, free := "-", "-", "-"
	if !p.Newest.IsZero() {
		newest = p.Newest.Local().Format("2006-01-02 15:04")
	} else if p.State == Never {
		newest = "never"
	}
	if p.Asked {
		kept = fmt.Sprint(p.Backups)
		if p.Free != nil {
			free = progress.Bytes(int64(*p.Free))
		}
	}
	return []string{job, p.Name(), newest, report.Age(p.Newest, now), kept, free, p.Words()}
}

// Words tell the state. What is not good stands out.
func (p Place) Words() string {
	most, words := time.Duration(p.MaxAge), string(p.State)
	switch p.State {
	case Good, Away, OnRecord:
		return words
	case Unknown:
		if p.Failure != nil {
			return "NO ANSWER"
		}
	case Bad:
		most *= 2
	}
	words = strings.ToUpper(words)
	switch {
	case p.Away != "":
		return words + ", away"
	case p.Failure != nil:
		return words + ", no answer"
	case p.State == Late || p.State == Bad:
		return fmt.Sprintf("%s (> %s)", words, report.Span(most))
	}
	return words
}

// lastRuns gives the jobs whose last run did not do everything, or if there is none, the one that was run last.
func lastRuns(jobs []Job) (failed []Job) {
	var last []Job
	for _, j := range jobs {
		switch {
		case j.LastRun == nil:
		case j.LastRun.Outcome != engine.Done:
			failed = append(failed, j)
		case len(last) == 0 || j.LastRun.Time.After(last[0].LastRun.Time):
			last = []Job{j}
		}
	}
	if len(failed) == 0 {
		return last
	}
	return failed
}
