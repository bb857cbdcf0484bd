package picture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

const (
	mostRuns  = 12   // that are shown of a job, and of those that failed before
	mostNames = 1000 // that are taken from the record of a place which cannot be looked at
	lookAhead = 400  // days, as of explain
)

// A Question is what is asked of jobs.
type Question struct {
	standing.Question
	Runtime string // where runs that are under way tell so
}

// Make asks the destinations of jobs, each for its standing and then for what it holds.
func (q Question) Make(ctx context.Context, jobs []*config.Job) Picture {
	p := Picture{Time: q.Now(), Warnings: []Warning{}, Running: underway.Runs(ctx, q.Runtime)}
	p.Machine, _ = os.Hostname() // which may have no name
	told := q.Survey(ctx, jobs)
	p.Jobs = make([]Job, len(jobs))
	var looking sync.WaitGroup
	for i, j := range jobs {
		looking.Go(func() { p.Jobs[i] = q.job(ctx, j, told[i], p) })
	}
	looking.Wait()
	for i := range p.Jobs {
		p.warn(told[i], &p.Jobs[i])
	}
	slices.SortStableFunc(p.Warnings, func(a, b Warning) int { return -cmp.Compare(severity(a), severity(b)) })
	return p
}

// job draws one job.
func (q Question) job(ctx context.Context, of *config.Job, told standing.Job, p Picture) Job {
	j := Job{Name: told.Name, Source: cmp.Or(told.Source, of.Spec.SourceName())}
	if of.Auto {
		j.Every = cmp.Or(of.Every.Name(), "every "+report.Span(of.Every.Length))
	}
	runs := standing.RunsOf(of.Name, told.Source, q.Runs)
	j.Runs = shown(runs)
	places := of.Spec.Destinations
	for _, at := range told.Places {
		j.Places = append(j.Places, Place{Place: at})
	}
	if len(places) == 0 {
		places = []job.Place{of.Spec.Source}
	} else if told.History && of.Spec.Source != nil && !of.Spec.Subvolume.Relay { // its snapshots are shown, too
		places = append(slices.Clip(places), of.Spec.Source)
		j.Places = append(j.Places, Place{Place: standing.Place{Asked: told.Failure == nil}})
	}
	machines := job.NewMachines(of.Spec.Reach, q.Environment)
	machines.Reading = job.Reading{Stores: of.Spec.Stores, Of: make(map[string]job.Stores)}
	defer standing.CloseAll(map[string]*job.Machines{"": machines})
	var looking sync.WaitGroup
	for i := range min(len(places), len(j.Places)) {
		at := &j.Places[i]
		at.recall(runs)
		looking.Go(func() { q.fill(ctx, of, machines, places[i], at, p) })
	}
	looking.Wait()
	return j
}

// shown gives the last runs, and those that failed before.
func shown(runs []report.Run) []report.Run {
	some := slices.Clone(runs[:min(len(runs), mostRuns)])
	for _, r := range runs[len(some):] {
		if r.Outcome != engine.Done && len(some) < 2*mostRuns {
			some = append(some, r)
		}
	}
	return some
}

// recall takes from the record what runs sent, and what room they found.
func (p *Place) recall(runs []report.Run) {
	p.Versions, p.Sent, p.Room = []Version{}, []Amount{}, []Amount{}
	if p.IsSource() {
		return
	}
	for _, r := range slices.Backward(runs) {
		room := (*uint64)(nil)
		sent, saved := int64(0), 0
		for _, d := range r.Destinations {
			if d.Destination == p.Destination || strings.HasPrefix(d.Destination, p.Destination+"/") { // that of a member of a set
				sent, saved, room = sent+d.Bytes, saved+len(d.Saved), cmp.Or(room, d.Free)
			}
		}
		if saved > 0 {
			p.Sent = append(p.Sent, Amount{r.Time, sent})
		}
		if room != nil {
			p.Room = append(p.Room, Amount{r.Time, int64(*room)})
		}
	}
}

// fill looks at what a place holds. What cannot be looked at has the names on record.
func (q Question) fill(ctx context.Context, of *config.Job, m *job.Machines, at job.Place, into *Place, p Picture) {
	runs := standing.RunsOf(of.Name, of.Spec.SourceName(), q.Runs)
	const grace = time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, q.Patience+grace, fmt.Errorf("no answer within %v", q.Patience))
	defer cancel()
	choice, err := of.Spec.RetentionAt(at, lock.State{Dir: q.State})
	choice.Days = lookAhead
	looked := &looking{ByPolicy: choice, now: p.Time, until: p.OutlookAt(), standing: into.Place, sent: sentBy(into.Destination, runs)}
	into.Policy = looked.policy().String()
	if !into.Asked {
		into.Versions = onRecord(into.Destination, runs)
		return
	}
	if err == nil {
		looked, err = engine.Ask(ctx, at, func(ctx context.Context) (*looking, error) {
			return looked, looked.at(ctx, m, at, of.Spec.Subvolume.Folder)
		})
		if looked != nil {
			looked.tell(into)
		}
	}
	if err != nil && !errors.Is(err, errNothing) {
		into.Unlisted = &engine.Failure{Err: err}
	}
}

// sentBy gives what runs sent at a destination for single backups, by name.
func sentBy(destination string, runs []report.Run) map[string]int64 {
	sent := make(map[string]int64)
	for _, r := range runs {
		for _, d := range r.Destinations {
			if d.Destination == destination && len(d.Saved) == 1 {
				sent[d.Saved[0]] = d.Bytes
			}
		}
	}
	return sent
}

// onRecord gives what runs saved at a destination, and did not delete since, newest first.
func onRecord(destination string, runs []report.Run) []Version {
	versions, gone := []Version{}, make(map[string]bool)
	for _, r := range runs {
		for _, d := range r.Destinations {
			if d.Destination != destination {
				continue
			}
			for _, name := range d.Deleted {
				gone[name] = true
			}
			for _, name := range slices.Backward(d.Saved) {
				if gone[name] || len(versions) == mostNames {
					continue
				}
				gone[name] = true
				v := Version{Name: name, Time: cmp.Or(timeIn(name), r.Time), OnRecord: true, Keep: true}
				if len(d.Saved) == 1 {
					v.Sent = &d.Bytes
				}
				versions = append(versions, v)
			}
		}
	}
	return versions
}
