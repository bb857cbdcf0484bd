// Package round works through the jobs of a configuration that are due: it opens the disks that they need, runs them one after
// another between their hooks, closes the disks, and tells people.
//
// What is opened is closed, and what hooks began is ended, whatever fails and also after a signal. A job that fails stops no other,
// unless a hook is critical. What is away on purpose is no failure: a disk that may be absent, a machine that is off line.
package round

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Round is what is to be done now.
type Round struct {
	*config.Config
	Names  []string // jobs to be run, due or not; none: those that are due
	Tag    string   // only jobs that have it; "": any
	Disk   string   // only jobs that need it; "": any
	DryRun bool

	Env   job.Environment
	Runs  []report.Run // the history, newest first
	Disks disk.Options
	Dir   string // for locks and notes; it does not outlive a start of the machine

	// End is told when all is over and recorded, before the disks are closed, also when nothing was due. It is not called in a dry run.
	End func(ctx context.Context)
	// Do does the job of an entry, and tells what it did.
	Do func(ctx context.Context, e *Entry) (report.Result, error)
	// Record is told of each job when it is over. It is called neither in a dry run nor for what is run by others, and for what was
	// skipped only if the job has no backup and no run on record: from then on, one is missing.
	Record func(ctx context.Context, e *Entry)

	opened []*openedDisk
}

// Run does what is due. The entries tell of all jobs that were chosen; the error is about what is around them, or the end of the
// context.
func (r *Round) Run(ctx context.Context) (entries []*Entry, err error) {
	if !r.DryRun {
		_, failed := hook.Finish(ctx, r.Dir, r.Env.Log)
		failed = errors.Join(failed, disk.CloseAbandoned(ctx, r.Disks))
		defer func() { err = errors.Join(failed, err, r.closeDisks(context.WithoutCancel(ctx))) }()
		defer r.End(ctx)
	}
	entries = r.choose()
	r.decideAll(ctx, entries)
	if !r.DryRun {
		defer r.recordFirst(ctx, entries)
	}
	due := slices.DeleteFunc(slices.Clone(entries), func(e *Entry) bool { return e.Skipped != "" })
	if len(due) == 0 || ctx.Err() != nil {
		return entries, context.Cause(ctx)
	}
	if r.DryRun {
		r.openDisks(ctx, due)
		r.doAll(ctx, due)
		return entries, context.Cause(ctx)
	}
	r.openDisks(ctx, due)
	toDo := slices.DeleteFunc(slices.Clone(due), func(e *Entry) bool { return e.Skipped != "" })
	if len(toDo) == 0 { // all disks are absent: no hook stops anything for that
		r.doAll(ctx, due)
		return entries, context.Cause(ctx)
	}
	r.tellStart(ctx, toDo)
	return entries, errors.Join(r.doBetweenHooks(ctx, due), context.Cause(ctx))
}

// doBetweenHooks does the jobs between the hooks that are around all of them.
func (r *Round) doBetweenHooks(ctx context.Context, due []*Entry) error {
	around := r.hooksOf(nil)
	if err := around.Before(ctx, hook.Run); err != nil {
		var skip *hook.SkipError
		if errors.As(err, &skip) {
			skipAll(due, skip.Reason)
			return skip.After
		}
		skipAll(due, "not run, since a hook failed")
		return err
	}
	r.doAll(ctx, due)
	failed := []error{context.Cause(ctx)}
	for _, e := range due {
		if e.Outcome() != engine.Done {
			failed = append(failed, e.whyFailed())
		}
	}
	return around.After(ctx, hook.Run, "", errors.Join(failed...))
}

func skipAll(entries []*Entry, why string) {
	for _, e := range entries {
		e.Skipped = cmp.Or(e.Skipped, why)
	}
}

// doAll does the jobs one after another. It ends early with the context, or when a hook is critical.
func (r *Round) doAll(ctx context.Context, due []*Entry) {
	for i, e := range due {
		if ctx.Err() != nil {
			skipAll(due[i:], "not run: "+context.Cause(ctx).Error())
			return
		}
		e.Began = r.Env.Now()
		if e.Skipped == "" { // its disk may be absent
			r.do(ctx, e)
		}
		e.Took = r.Env.Now().Sub(e.Began)
		if outcome := e.Outcome(); !r.DryRun && outcome != engine.Busy && (e.Skipped == "" || outcome != engine.Done) {
			r.Record(ctx, e)
		}
		if critical := new(hook.CriticalError); errors.As(e.whyFailed(), &critical) && i+1 < len(due) {
			r.Env.Log.Warn(fmt.Sprintf("the jobs after %s are not run: its hook is critical", e.Name))
			skipAll(due[i+1:], "not run, since a critical hook of "+e.Name+" failed")
			return
		}
	}
}

// recordFirst records the skipped jobs of which nothing is known: what never finds its disk is to be told some day.
func (r *Round) recordFirst(ctx context.Context, entries []*Entry) {
	for _, e := range entries {
		hasRun := slices.ContainsFunc(r.Runs, func(run report.Run) bool { return run.Job == e.Name })
		if e.Skipped != "" && e.Err() == nil && !hasRun && e.lacksAny() && ctx.Err() == nil {
			e.Began = r.Env.Now()
			r.Record(ctx, e)
		}
	}
}

// do does a job between its hooks, under its lock.
func (r *Round) do(ctx context.Context, e *Entry) {
	release, err := r.lock(ctx, e.Name)
	if err != nil {
		e.fail(err)
		return
	}
	defer release()
	e.Hooks = r.hooksOf(e)
	if r.DryRun {
		e.Hooks = nil
	} else if err := e.Hooks.Before(ctx, hook.Run); err != nil {
		var skip *hook.SkipError
		if errors.As(err, &skip) {
			e.Skipped = skip.Reason
			e.fail(skip.After)
			return
		}
		e.fail(err)
		return
	}
	e.Result, err = r.Do(ctx, e)
	e.fail(err)
	e.Skipped = e.Report().Skipped
	if e.Hooks != nil {
		e.fail(e.Hooks.After(ctx, hook.Run, e.Report().Snapshot, e.whyFailed()))
	}
}

// hooksOf gives the hooks of a job, or with nil those around the whole.
func (r *Round) hooksOf(e *Entry) *hook.Runner {
	if e == nil {
		return &hook.Runner{Hooks: r.Hooks, Log: r.Env.Log, Dir: r.Dir}
	}
	runner := &hook.Runner{Hooks: e.Job.Hooks, Job: e.Name, Log: r.Env.Log, Dir: r.Dir}
	if e.Spec.Source != nil {
		runner.Source = e.Spec.Source.String()
	}
	for _, p := range e.Spec.Destinations {
		runner.Destinations = append(runner.Destinations, p.String())
	}
	return runner
}

// A busyError tells that another process runs the job.
type busyError struct {
	job string
	*lock.HeldError
}

func (e *busyError) Error() string { return fmt.Sprintf("job %s is run by %s", e.job, e.Holder()) }

func (e *busyError) Unwrap() error { return e.HeldError }

// lock keeps a second run of the job out.
func (r *Round) lock(ctx context.Context, job string) (release func(), err error) {
	if r.DryRun {
		return func() {}, nil
	}
	path := filepath.Join(r.Dir, "jobs", job)
	err = os.MkdirAll(path, 0o700)
	dir, openErr := os.Open(path)
	if openErr != nil { // as on a full disk; source and destinations have locks of their own
		r.Env.Log.Warn(fmt.Sprintf("job %s: a second run of it is not kept out: %v", job, cmp.Or(err, openErr)))
		return func() {}, nil
	}
	defer dir.Close()
	held, err := lock.Acquire(ctx, dir, nil)
	var other *lock.HeldError
	if errors.As(err, &other) {
		return nil, hint.New(&busyError{job, other}, "wait for it, or kill it")
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = held.Release() }, nil // it ends with the process at the latest
}
