package round

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// An Entry is a job in a round.
type Entry struct {
	*config.Job
	Spec     job.Spec      // for this round: what is not due in it is absent
	Skipped  string        // why it was not run; "": it was
	Standing *standing.Job // what there was before; nil: nobody looked
	Hooks    *hook.Runner  // nil in a dry run
	Result   report.Result // of the run; without a Report there was none
	Began    time.Time
	Took     time.Duration

	errs []error // about what is around it
}

// whyLeftOut gives the reasons why destinations are absent.
func (e *Entry) whyLeftOut() string {
	var reasons []string
	for _, p := range e.Spec.Destinations {
		if why := e.Spec.Absent(p); why != "" && !slices.Contains(reasons, why) {
			reasons = append(reasons, why)
		}
	}
	return strings.Join(reasons, "; ")
}

// lacksAny tells that a destination has no backup that is known of.
func (e *Entry) lacksAny() bool {
	return e.Standing != nil && slices.ContainsFunc(e.Standing.Places, func(p standing.Place) bool { return p.Newest.IsZero() })
}

func (e *Entry) fail(err error) {
	if err != nil {
		e.errs = append(e.errs, err)
	}
}

// Err gives what failed that the Result does not tell.
func (e *Entry) Err() error { return errors.Join(e.errs...) }

// Report tells what the run did: nothing if there was none.
func (e *Entry) Report() *engine.Report { return cmp.Or(e.Result.Report, &engine.Report{}) }

// whyFailed gives all that failed.
func (e *Entry) whyFailed() error { return errors.Join(e.Report().Err(), e.Err()) }

// Outcome sums the entry up.
func (e *Entry) Outcome() engine.Outcome {
	switch ran := e.Report().Outcome(); {
	case len(e.errs) == 0:
		return ran
	case e.Result.Report != nil && ran != engine.Failed:
		return engine.Partly
	case !slices.ContainsFunc(e.errs, func(err error) bool { return !lock.IsHeld(err) }):
		return engine.Busy
	}
	return engine.Failed
}

// Outcome sums a round up. around is what failed beside the jobs.
func Outcome(entries []*Entry, around error) engine.Outcome {
	all := make(map[engine.Outcome]int)
	for _, e := range entries {
		if e.Skipped == "" || e.Err() != nil {
			all[e.Outcome()]++
		}
	}
	if around != nil {
		all[engine.Failed]++
	}
	switch {
	case all[engine.Partly] > 0, all[engine.Failed] > 0 && all[engine.Done] > 0:
		return engine.Partly
	case all[engine.Failed] > 0:
		return engine.Failed
	case all[engine.Busy] > 0:
		return engine.Busy
	}
	return engine.Done
}

// Run gives what the history is to tell of the entry, but for the exit status.
func (e *Entry) Run() report.Run {
	var run report.Run
	if e.Result.Report != nil {
		run = report.Summarize(e.Result)
	}
	run.Job, run.Time, run.Duration, run.Outcome = e.Name, e.Began, e.Took, e.Outcome()
	if run.Outcome == engine.Done {
		run.Skipped = e.Skipped
	}
	if e.Spec.Source != nil {
		run.Source = e.Spec.Source.String()
	}
	run.Failures = append(run.Failures, failuresOf(e.Err())...)
	return run
}

// Jobs makes a report of entries, but for how the round ended. The error is about what is around them.
func Jobs(entries []*Entry, around error) report.Jobs {
	jobs := report.Jobs{Jobs: []report.JobResult{}, Failures: failuresOf(around)}
	for _, e := range entries {
		one := report.JobResult{Job: e.Name, Skipped: e.Skipped, Took: e.Took, Failures: failuresOf(e.Err())}
		if e.Result.Report != nil {
			one.Result = &e.Result
		}
		jobs.Jobs = append(jobs.Jobs, one)
	}
	return jobs
}

func failuresOf(err error) (all []engine.Failure) {
	for _, one := range hint.Each(err) {
		all = append(all, engine.Failure{Err: one})
	}
	return all
}
