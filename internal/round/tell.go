package round

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/notify"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

func (r *Round) send(ctx context.Context, n notify.Notice) error {
	s := notify.Sender{Settings: r.Notify, State: lock.State{Dir: r.Env.State}, Log: r.Env.Log}
	n.Host, _ = os.Hostname() // which may have no name
	n.Time = r.Env.Now()
	if err := s.Send(ctx, n); err != nil {
		return fmt.Errorf("telling of the run: %w", err)
	}
	return nil
}

// subject sums a notice up. What failed may be no job, but something around them.
func subject(jobs []string, how string) string {
	return strings.TrimSuffix("backup "+strings.Join(jobs, ", "), " ") + ": " + how
}

// tellStart tells that the round begins.
func (r *Round) tellStart(ctx context.Context, due []*Entry) {
	n := notify.Notice{Event: notify.Start, Jobs: namesOf(due)}
	n.Subject = subject(n.Jobs, "started")
	if err := r.send(ctx, n); err != nil {
		r.Env.Log.Warn(err.Error())
	}
}

// Tell tells people how the jobs ended that were run, and which backups are too old. What others run is theirs to tell.
func (r *Round) Tell(ctx context.Context, entries []*Entry, jobs report.Jobs) error {
	ran := slices.DeleteFunc(slices.Clone(entries), func(e *Entry) bool {
		return e.Skipped != "" && e.Err() == nil || e.Outcome() == engine.Busy
	})
	n := notify.Notice{Event: notify.Success, Report: jobs, Body: jobs.Text(), Jobs: namesOf(ran), Status: jobs.Status,
		Failures: make(map[string]string)}
	how := "done"
	for _, e := range ran {
		switch e.Outcome() {
		case engine.Partly, engine.Failed:
			n.Failures[e.Name] = failureOf(e)
		case engine.Done:
			if len(report.FailuresOf(e.Name, r.Runs)) > 0 && n.Event == notify.Success {
				n.Event, how = notify.Recovery, "works again"
			}
		}
	}
	if len(n.Failures) > 0 || len(jobs.Failures) > 0 {
		n.Event, how = notify.Failure, "failed"
		n.Jobs = slices.DeleteFunc(n.Jobs, func(name string) bool { return n.Failures[name] == "" })
	}
	var err error
	if len(ran) > 0 || len(jobs.Failures) > 0 {
		n.Subject = subject(n.Jobs, how)
		err = r.send(ctx, n)
	}
	if stale := Stale(entries); len(stale) > 0 && err == nil {
		err = r.sendStale(ctx, stale)
	}
	return err
}

func (r *Round) sendStale(ctx context.Context, stale map[string]string) error {
	n := notify.Notice{Event: notify.Stale, Failures: stale}
	for _, j := range r.Jobs {
		if why := stale[j.Name]; why != "" {
			n.Jobs = append(n.Jobs, j.Name)
			n.Body += j.Name + ": " + why + "\n"
		}
	}
	n.Subject = subject(n.Jobs, "too old")
	return r.send(ctx, n)
}

// failureOf gives the first failure of an entry.
func failureOf(e *Entry) string {
	for _, f := range e.Report().AllFailures() {
		return f.Err.Error()
	}
	return fmt.Sprint(e.Err())
}

func namesOf(entries []*Entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}
