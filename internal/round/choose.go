package round

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/online"
	"github.com/btrfs-backup/btrfs-backup/internal/power"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

const clock = "2006-01-02 15:04"

// choose gives entries for the jobs that are asked for.
func (r *Round) choose() (entries []*Entry) {
	for _, j := range r.Jobs {
		isNamed := slices.Contains(r.Names, j.Name)
		switch {
		case len(r.Names) > 0 && !isNamed, len(r.Names) == 0 && !j.Auto:
		case r.Tag != "" && !slices.Contains(j.Tags, r.Tag):
		case r.Disk != "" && !r.needs(&j.Spec, r.Disk):
		default:
			entries = append(entries, &Entry{Job: j, Spec: j.Spec})
		}
	}
	return entries
}

// decideAll finds out which entries are due.
func (r *Round) decideAll(ctx context.Context, entries []*Entry) {
	var deciding sync.WaitGroup
	for _, e := range entries {
		deciding.Go(func() { e.Skipped = r.obstacle(ctx, e) })
	}
	deciding.Wait()
	if len(r.Names) == 0 {
		r.askAll(ctx, entries)
	}
	for _, e := range entries {
		if e.Skipped != "" {
			r.Env.Log.Debug(fmt.Sprintf("job %s: %s", e.Name, e.Skipped))
		}
	}
}

// askAll asks the destinations what they have.
func (r *Round) askAll(ctx context.Context, entries []*Entry) {
	const patience = 30 * time.Second
	question := standing.Question{Environment: r.Env, Patience: patience, Runs: r.Runs, Disks: r.Config.Disks}
	for _, e := range entries {
		if e.Skipped != "" && !e.Spec.Subvolume.OnlyChanged { // its backups age all the same
			recorded := question.Recorded(e.Job)
			e.Standing = &recorded
		}
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *Entry) bool { return e.Skipped != "" })
	var jobs []*config.Job
	for _, e := range entries {
		jobs = append(jobs, e.Job)
	}
	for i, found := range question.Survey(ctx, jobs) {
		entries[i].Standing = &found
		entries[i].decide(r.Env.Now())
	}
}

// decide finds out whether an entry is due, and leaves out what is not.
func (e *Entry) decide(now time.Time) {
	lacking := 0
	for _, p := range e.Spec.Destinations {
		at := e.at(p)
		newest := at.As(now)
		if e.Every.Due(now, newest) {
			lacking++
			continue
		}
		if at.Current {
			e.Spec.LeaveOut(p, "nothing changed since "+at.Newest.Format(clock))
			continue
		}
		e.Spec.LeaveOut(p, "not due until "+e.Every.Next(now, newest).Format(clock))
	}
	snapshotDue := !e.Standing.Unchanged && e.Every.Due(now, e.Standing.Snapshot)
	switch {
	case lacking > 0 && e.Standing.History && !snapshotDue && !e.Spec.HasMembers():
		e.Spec.Subvolume.NoSnapshot = true // that of this period is sent
	case lacking > 0, snapshotDue && len(e.Spec.Destinations) == 0:
	default:
		e.Skipped = cmp.Or(e.whyLeftOut(), "not due until "+e.Every.Next(now, e.Standing.Snapshot).Format(clock))
	}
}

// at gives what was found at a destination.
func (e *Entry) at(p job.Place) standing.Place {
	for _, at := range e.Standing.Places {
		if at.Destination == engine.PlaceName(p.String()) {
			return at
		}
	}
	return standing.Place{}
}

// obstacle tells why a job is not run now, if anything speaks against it.
func (r *Round) obstacle(ctx context.Context, e *Entry) string {
	if !e.OnBattery && r.knows("battery", func() (bool, error) { return power.OnBattery(power.Supplies) }) {
		return "on battery"
	}
	if !e.Metered && r.knows("network", func() (bool, error) { return power.Metered(ctx) }) {
		return "on a metered network"
	}
	if why := r.backOff(e); why != "" && len(r.Names) == 0 {
		r.Env.Log.Info(fmt.Sprintf("job %s: %s", e.Name, why))
		return why
	}
	if e.Online == "" {
		return ""
	}
	there, err := online.Parse(e.Online)
	if err == nil {
		err = there.Probe(ctx, e.Spec.Reach.SSH(r.Env))
	}
	switch {
	case errors.Is(err, online.ErrAway):
		return err.Error()
	case err != nil: // the job finds out
		r.Env.Log.Warn(fmt.Sprintf("job %s: online = %q: %v", e.Name, e.Online, err))
	}
	return ""
}

// backOff tells why a job that failed is not tried now. A failure before the end of the wait was asked for by name: it makes the
// wait no longer.
func (r *Round) backOff(e *Entry) string {
	failures := report.FailuresOf(e.Name, r.Runs)
	var next, last time.Time
	counted := 0
	for _, last = range slices.Backward(failures) {
		if !last.Before(next) {
			counted++
		}
		next = last.Add(due.RetryAfter(counted, e.Every))
	}
	if now := r.Env.Now(); counted == 0 || !now.Before(next) || last.After(now) {
		return ""
	}
	often := "once"
	if len(failures) > 1 {
		often = fmt.Sprintf("%d times", len(failures))
	}
	return fmt.Sprintf("failed %s; tried again at %s, or now: btrfs-backup run %s", often, next.Format(clock), e.Name)
}

// knows tells what is known of this machine; what is not is no obstacle.
func (r *Round) knows(what string, look func() (bool, error)) bool {
	found, err := look()
	if err != nil {
		r.Env.Log.Debug(fmt.Sprintf("looking at the %s: %v", what, err))
	}
	return found
}

// needs tells that the source or a destination of a job is on a disk.
func (r *Round) needs(s *job.Spec, name string) bool {
	return slices.ContainsFunc(append([]job.Place{s.Source}, s.Destinations...), func(p job.Place) bool {
		d := r.Config.Disks.Of(p)
		return d != nil && d.Name == name
	})
}
