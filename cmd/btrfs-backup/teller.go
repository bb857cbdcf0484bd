package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"btrfs-backup/internal/config"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/notify"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/round"
	"btrfs-backup/lock"
)

// teller tells people of a round.
type teller struct {
	env    environment
	config *config.Config
	given  job.Environment
	runs   []report.Run // before the round, newest first
}

func (t teller) send(ctx context.Context, n notify.Notice) error {
	s := notify.Sender{Settings: t.config.Notify, State: lock.State{Dir: t.given.State}, Log: t.given.Log}
	n.Host, _ = os.Hostname() // which may have no name
	n.Time = t.env.now()
	if err := s.Send(ctx, n); err != nil {
		return fmt.Errorf("telling of the run: %w", err)
	}
	return nil
}

// subject sums a notice up. What failed may be no job, but something around them.
func subject(jobs []string, how string) string {
	return strings.TrimSuffix("backup "+strings.Join(jobs, ", "), " ") + ": " + how
}

// begin tells that a round begins.
func (t teller) begin(ctx context.Context, due []*round.Entry) {
	n := notify.Notice{Event: notify.Start, Jobs: namesOf(due)}
	n.Subject = subject(n.Jobs, "started")
	if err := t.send(ctx, n); err != nil {
		t.given.Log.Warn(err.Error())
	}
}

// tell tells how the jobs ended that were run, and which backups are too old.
func (t teller) tell(ctx context.Context, r *round.Round, entries []*round.Entry, jobs report.Jobs) error {
	ran := slices.DeleteFunc(slices.Clone(entries), func(e *round.Entry) bool { return e.Skipped != "" && e.Err() == nil })
	n := notify.Notice{Event: notify.Success, Report: jobs, Body: jobs.Text(), Jobs: namesOf(ran), Status: jobs.Status,
		Failures: make(map[string]string)}
	how := "done"
	for _, e := range ran {
		switch e.Outcome() {
		case engine.Partly, engine.Failed:
			n.Failures[e.Name] = failureOf(e)
		case engine.Done:
			if len(report.FailuresOf(e.Name, t.runs)) > 0 && n.Event == notify.Success {
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
		err = t.send(ctx, n)
	}
	if stale := round.Stale(entries); len(stale) > 0 && err == nil {
		err = t.sendStale(ctx, stale)
	}
	return err
}

func (t teller) sendStale(ctx context.Context, stale map[string]string) error {
	n := notify.Notice{Event: notify.Stale, Failures: stale}
	for _, j := range t.config.Jobs {
		if why := stale[j.Name]; why != "" {
			n.Jobs = append(n.Jobs, j.Name)
			n.Body += j.Name + ": " + why + "\n"
		}
	}
	n.Subject = subject(n.Jobs, "too old")
	return t.send(ctx, n)
}

// failureOf gives the first failure of an entry.
func failureOf(e *round.Entry) string {
	for _, f := range e.Report().AllFailures() {
		return f.Err.Error()
	}
	return fmt.Sprint(e.Err())
}

func namesOf(entries []*round.Entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}
