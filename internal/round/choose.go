package round

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"btrfs-backup/internal/disk"
	"btrfs-backup/internal/due"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/engine/plan"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/online"
	"btrfs-backup/internal/power"
	"btrfs-backup/internal/report"
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
			entries = append(entries, newEntry(j))
		}
	}
	return entries
}

// decide finds out whether an entry is due, and leaves out what is not.
func (r *Round) decide(ctx context.Context, e *Entry) {
	past := pastOf(e.Name, r.Runs)
	if e.Skipped = r.obstacle(ctx, e, past); e.Skipped != "" {
		return
	}
	if len(r.Names) > 0 {
		return
	}
	r.look(ctx, e)
	now := r.Env.Now()
	var lacking int
	for _, p := range e.Spec.Destinations {
		newest := r.newestAt(e, p, past)
		if !e.Every.Due(now, newest) {
			e.leaveOut(p, "not due until "+e.Every.Next(now, newest).Format(clock))
			continue
		}
		lacking++
	}
	snapshotDue := e.Every.Due(now, e.Standing.Snapshots.Newest)
	switch {
	case lacking > 0 && e.Standing.History && !snapshotDue && !e.Spec.HasMembers():
		e.Spec.Subvolume.NoSnapshot = true // that of this period is sent
	case lacking > 0, snapshotDue && len(e.Spec.Destinations) == 0:
	default:
		e.Skipped = cmp.Or(e.whyLeftOut(), "not due until "+e.Every.Next(now, e.Standing.Snapshots.Newest).Format(clock))
	}
}

// obstacle tells why a job is not run now, if anything speaks against it.
func (r *Round) obstacle(ctx context.Context, e *Entry, past past) string {
	if !e.OnBattery && r.knows("battery", func() (bool, error) { return power.OnBattery(power.Supplies) }) {
		return "on battery"
	}
	if !e.Metered && r.knows("network", func() (bool, error) { return power.Metered(ctx) }) {
		return "on a metered network"
	}
	wait := due.RetryAfter(past.failures, e.Every)
	if next := past.last.Add(wait); len(r.Names) == 0 && past.failures > 0 && r.Env.Now().Before(next) && !past.last.After(r.Env.Now()) {
		return fmt.Sprintf("failed %d times, tried again at %s", past.failures, next.Format(clock))
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

// knows tells what is known of this machine; what is not is no obstacle.
func (r *Round) knows(what string, look func() (bool, error)) bool {
	found, err := look()
	if err != nil {
		r.Env.Log.Debug(fmt.Sprintf("looking at the %s: %v", what, err))
	}
	return found
}

// look looks at what there is, except on disks that are closed.
func (r *Round) look(ctx context.Context, e *Entry) {
	seen := newEntry(e.Job)
	for _, p := range e.Spec.Destinations {
		if d := r.diskOf(p); d != nil && !d.IsMounted() {
			seen.leaveOut(p, "its disk is closed")
		}
	}
	var err error
	if e.Standing, err = r.Look(ctx, seen); err != nil {
		e.Standing = &engine.Standing{Err: err}
	}
}

// newestAt gives the time of the newest backup at a destination: what was found there, or what is on record of one that could not be
// asked.
func (r *Round) newestAt(e *Entry, p job.Place, past past) time.Time {
	for _, at := range e.Standing.Destinations {
		if at.Destination == p.String() && at.Err == nil && at.Absent == "" {
			return at.Newest
		}
	}
	return past.newest[p.String()]
}

// past is what the history tells of a job.
type past struct {
	last     time.Time            // when it was run
	failures int                  // in a row
	newest   map[string]time.Time // of the backups, by destination
}

func pastOf(job string, runs []report.Run) past {
	p := past{newest: make(map[string]time.Time)}
	ended := false
	for _, run := range runs {
		if run.Job != job {
			continue
		}
		if p.last.IsZero() {
			p.last = run.Time
		}
		switch run.Outcome {
		case report.Failed, report.Partly:
			if !ended {
				p.failures++
			}
		case report.Done:
			ended = true
		}
		for _, d := range run.Destinations {
			for _, name := range d.Saved {
				if naming, ok := plan.NamingOf(name); ok {
					if t, _ := naming.Time(name); t.After(p.newest[d.Destination]) {
						p.newest[d.Destination] = t
					}
				}
			}
		}
	}
	return p
}

// diskOf gives the disk that a place is on, nil if none of the configuration.
func (r *Round) diskOf(p job.Place) *disk.Disk {
	local, ok := p.(job.Local)
	if !ok {
		return nil
	}
	for i, d := range r.Config.Disks {
		if d.Holds(local.Path) {
			return &r.Config.Disks[i]
		}
	}
	return nil
}

// needs tells that the source or a destination of a job is on a disk.
func (r *Round) needs(s *job.Spec, name string) bool {
	return slices.ContainsFunc(append([]job.Place{s.Source}, s.Destinations...), func(p job.Place) bool {
		d := r.diskOf(p)
		return d != nil && d.Name == name
	})
}
