// Package standing answers whether there is a backup: of each job, at each destination, how old, and whether that is too old.
//
// The destinations are asked, all at once. What cannot be asked is shown with the date of what is on record, and is never good: a
// record tells what was there. Nothing is locked or changed.
package standing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// A State judges what is at a place.
type State string

// The states, and the only one that is good.
const (
	Good     State = "good"
	Away     State = "away"      // its disk is, and may be; what is on record is not too old
	OnRecord State = "on record" // it cannot be looked at, and what is on record is not too old
	Unknown  State = "unknown"   // it gives no answer, and what is on record is not too old, or is nothing
	Damaged  State = "damaged"   // some of its backups are not what they were
	Late     State = "late"      // older than the maximum age
	Bad      State = "bad"       // older than twice that
	Never    State = "never"     // also if its disk is away, and nothing is on record
)

// IsFine tells that there is nothing to be done. That a disk is away on purpose counts as well until its backup is too old.
func (s State) IsFine() bool { return s == Good || s == Away }

// A Job tells of one job.
type Job struct {
	Name    string          `json:"job"`
	Source  string          `json:"source"`
	Failure *engine.Failure `json:"source_failure,omitempty"` // why the source cannot be looked at
	LastRun *report.Run     `json:"last_run,omitempty"`
	Skipped int             `json:"skipped"` // runs in the history that were
	Places  []Place         `json:"destinations"`

	History   bool      `json:"-"` // its source keeps snapshots
	Snapshot  time.Time `json:"-"` // the newest of such a source
	Unchanged bool      `json:"-"` // since then, if the job is for changes only
}

// A Place is one destination, or the source of a job without any.
type Place struct {
	Destination string          `json:"destination"` // "": the snapshots at the source
	State       State           `json:"state"`
	Newest      time.Time       `json:"newest,omitzero"`
	Oldest      time.Time       `json:"oldest,omitzero"`
	Backups     int             `json:"backups"`          // complete ones
	Ahead       int             `json:"future,omitempty"` // more that are dated in the future
	Free        *uint64         `json:"free_bytes,omitempty"`
	Asked       bool            `json:"asked"`             // else only Newest is known, from the record
	Away        string          `json:"away,omitempty"`    // why it is absent on purpose
	Current     bool            `json:"current,omitempty"` // nothing changed since, and the job is for changes only
	MaxAge      Seconds         `json:"max_age_seconds"`   // 0: any age will do
	NextDue     time.Time       `json:"next_due,omitzero"` // when a run will be due
	Failure     *engine.Failure `json:"failure,omitempty"` // why it could not be asked
	Damage      *engine.Failure `json:"damage,omitempty"`  // which backups are not what they were
	Warning     string          `json:"warning,omitempty"` // what is odd about it

	Names   []string  `json:"-"` // of the complete backups, oldest first
	Overdue time.Time `json:"-"` // the first run of the job, if that is older than the maximum age and no backup is known
}

// Seconds are a duration, which JSON has in whole seconds.
type Seconds time.Duration

// MarshalJSON writes the seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Append(nil, int64(time.Duration(s)/time.Second)), nil
}

// A Question is what is asked of jobs.
type Question struct {
	job.Environment
	MaxAge   time.Duration // of all jobs; 0: each has its own
	Patience time.Duration // how long an answer may take
	Runs     []report.Run  // on record, newest first
	Disks    config.Disks  // that are closed while nothing needs them
}

// Survey asks the destinations of jobs.
func (q Question) Survey(ctx context.Context, jobs []*config.Job) []Job {
	now := q.Now()
	machines := make(map[string]*job.Machines) // those of equal settings share their connections
	for _, j := range jobs {
		if key := keyOf(j); machines[key] == nil {
			machines[key] = job.NewMachines(j.Spec.Reach, q.Environment)
		}
	}
	found := make([]Job, len(jobs))
	var asking sync.WaitGroup
	for i, j := range jobs {
		asking.Go(func() { found[i] = q.ask(ctx, j, machines[keyOf(j)], now) })
	}
	asking.Wait()
	CloseAll(machines)
	return found
}

// CloseAll ends the connections, but for what hangs.
func CloseAll(machines map[string]*job.Machines) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, m := range machines {
			m.Close()
		}
	}()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}

func keyOf(j *config.Job) string { return fmt.Sprintf("%#v", j.Spec.Reach) }

// ask asks those of one job.
func (q Question) ask(ctx context.Context, j *config.Job, m *job.Machines, now time.Time) Job {
	const grace = time.Second // for what hangs where nobody waits for an answer
	late := fmt.Errorf("no answer within %v", q.Patience)
	outer, cancelOuter := context.WithTimeoutCause(ctx, q.Patience+grace, late)
	defer cancelOuter()
	inner, cancel := context.WithTimeoutCause(ctx, q.Patience, late)
	defer cancel()
	s, err := engine.Ask(outer, named(j.Name), func(context.Context) (*engine.Standing, error) {
		spec := q.without(j.Spec)
		s, err := spec.Survey(inner, m, q.Environment)
		if err != nil {
			err = fmt.Errorf("%s: %w", named(j.Name), err)
		}
		return s, err
	})
	told := Job{Name: j.Name}
	if err != nil {
		s = &engine.Standing{Err: err}
		for _, d := range j.Spec.Destinations {
			s.Destinations = append(s.Destinations, engine.StandingAt{Destination: d.String(), Err: errUnasked})
		}
	}
	told.History, told.Snapshot, told.Unchanged = s.History, s.Snapshots.Newest, s.Same != ""
	if told.Source = s.Source; s.Err != nil {
		told.Failure = &engine.Failure{Err: s.Err}
	}
	r := recordOf(j.Name, s.Source, q.Runs)
	told.LastRun, told.Skipped = r.last(), r.skipped()
	if len(s.Destinations) == 0 {
		s.Destinations = []engine.StandingAt{{Kept: s.Snapshots, Complete: []string{s.Same}, Err: s.Err}}
	}
	for _, at := range s.Destinations {
		p := placeOf(at, r)
		p.MaxAge = Seconds(q.maxAge(j, at.Destination))
		p.Overdue = r.overdue(p, now)
		p.Current = s.Same != "" && p.Asked && slices.Contains(at.Complete, s.Same)
		p.judge(now)
		if !j.Every.IsZero() && j.Auto {
			p.NextDue = j.Every.Next(now, p.As(now))
		}
		told.Places = append(told.Places, p)
	}
	return told
}

// Recorded tells what the record has of a job, and asks nobody.
func (q Question) Recorded(j *config.Job) Job {
	told := Job{Name: j.Name}
	if j.Spec.Source != nil {
		told.Source = engine.PlaceName(j.Spec.Source.String())
	}
	r := recordOf(j.Name, told.Source, q.Runs)
	for _, d := range j.Spec.Destinations {
		p := placeOf(engine.StandingAt{Destination: engine.PlaceName(d.String()), OnRecord: true}, r)
		p.MaxAge = Seconds(q.maxAge(j, p.Destination))
		p.Overdue = r.overdue(p, q.Now())
		p.judge(q.Now())
		told.Places = append(told.Places, p)
	}
	return told
}

// without leaves out the destinations whose disks are closed.
func (q Question) without(s job.Spec) job.Spec {
	for _, p := range s.Destinations {
		if d := q.Disks.Of(p); d != nil && !d.IsMounted() {
			s.LeaveOut(p, fmt.Sprintf("disk %s is not mounted", d.Name))
		}
	}
	return s
}

type named string

func (n named) String() string { return "job " + string(n) }

var errUnasked = errors.New("not asked, since the job could not be made ready")

// maxAge gives the age from which a newest backup is late.
func (q Question) maxAge(j *config.Job, destination string) time.Duration {
	byDefault := j.Every.MaxAge()
	if !j.Auto {
		byDefault = 0 // it runs when somebody wants it
	}
	return cmp.Or(q.MaxAge, j.MaxAgeAt[destination], j.MaxAge, byDefault)
}

func placeOf(at engine.StandingAt, r record) Place {
	p := Place{Destination: at.Destination, Newest: at.Newest, Oldest: at.Oldest, Backups: at.Number, Ahead: at.Ahead, Free: at.Free, Names: at.Complete,
		Asked: at.Err == nil && !at.OnRecord, Away: at.Absent}
	if at.Err != nil && at.Absent == "" {
		p.Failure = &engine.Failure{Err: at.Err}
	}
	if at.Broken != nil {
		p.Damage = &engine.Failure{Err: at.Broken}
	}
	if recorded := r.saved(at.Destination); !p.Asked && recorded.After(p.Newest) {
		p.Newest = recorded
	}
	if at.Ahead > 0 {
		p.Warning = fmt.Sprintf("dated in the future and not counted: %d; is the clock right?", at.Ahead)
	}
	return p
}

// As gives the time at which a backup would be as good as the newest one: while nothing changes, that is now.
func (p Place) As(now time.Time) time.Time {
	if p.Current {
		return now
	}
	return p.Newest
}

// judge sets the state.
func (p *Place) judge(now time.Time) {
	age, most := now.Sub(p.As(now)), time.Duration(p.MaxAge)
	switch {
	case p.Newest.IsZero() && p.Damage != nil: // of all
		p.State = Damaged
	case p.Newest.IsZero() && p.Ahead == 0 && (p.Asked || p.Away != ""):
		p.State = Never
	case p.Newest.IsZero():
		p.State = Unknown
	case most > 0 && age > 2*most:
		p.State = Bad
	case most > 0 && age > most:
		p.State = Late
	case p.Damage != nil:
		p.State = Damaged
	case p.Asked:
		p.State = Good
	case p.Away != "":
		p.State = Away
	case p.Failure == nil:
		p.State = OnRecord
	default:
		p.State = Unknown
	}
}

// AreFine tells that every destination of every job has what it should have.
func AreFine(jobs []Job) bool {
	return !slices.ContainsFunc(jobs, func(j Job) bool {
		return slices.ContainsFunc(j.Places, func(p Place) bool { return !p.State.IsFine() })
	})
}

// Failures gives all that went wrong with the asking, each once.
func Failures(jobs []Job) (all []error) {
	add := func(f *engine.Failure) {
		if f != nil && !errors.Is(f.Err, errUnasked) && !slices.ContainsFunc(all, func(err error) bool { return err.Error() == f.Err.Error() }) {
			all = append(all, f.Err)
		}
	}
	for _, j := range jobs {
		add(j.Failure)
		for _, p := range j.Places {
			add(p.Failure)
			add(p.Damage)
		}
	}
	return all
}
