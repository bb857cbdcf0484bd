package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/hook"
)

// Around is called around phases of a run.
type Around interface {
	// Before may refuse the phase. What it did is undone then. A hook.SkipError is no failure.
	Before(ctx context.Context, phase hook.Phase) error
	// After is called when the phase is over, whatever became of it, also when ctx has ended.
	After(ctx context.Context, phase hook.Phase, snapshot string, ended error) error
}

// Surround does a phase within what is called around it, and reports what fails of that. It gives false if the phase was refused, or
// ctx has ended.
func (s Settings) Surround(ctx context.Context, phase hook.Phase, report *Report, do func()) (done bool) {
	if s.Around == nil || s.DryRun {
		do()
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	if err := s.Around.Before(ctx, phase); err != nil {
		s.refuse(ctx, report, err)
		return false
	}
	do()
	if err := s.Around.After(ctx, phase, report.newest(), cmp.Or(context.Cause(ctx), report.Err())); err != nil {
		s.tell(ctx, report, err)
	}
	return true
}

// refuse reports why a phase was not done.
func (s Settings) refuse(ctx context.Context, report *Report, err error) {
	var skip *hook.SkipError
	if errors.As(err, &skip) {
		s.Log.Info(skip.Reason)
		report.Skipped, err = skip.Reason, skip.After
	}
	if err != nil {
		s.tell(ctx, report, err)
	}
}

// tell reports a failure. At the end of a run that a signal ends, failures are not told.
func (s Settings) tell(ctx context.Context, report *Report, err error) {
	if report.fail(err); ctx.Err() != nil {
		s.Log.Error(err.Error())
	}
}

// newest gives the name of the snapshot that was taken, or "".
func (r *Report) newest() string {
	for _, part := range r.Parts() {
		if part.Snapshot != "" {
			return part.Snapshot
		}
	}
	return ""
}

// takes tells that the run takes a snapshot.
func (r *run) takes() bool { return r.history != nil && !r.NoSnapshot && r.found.NoTake == nil }

// surround does a phase, of which there may be nothing to do.
func (r *run) surround(ctx context.Context, phase hook.Phase, isOne bool, do func()) (done bool) {
	if !isOne {
		do()
		return true
	}
	return r.Surround(ctx, phase, &r.report, do)
}

// saveAndConclude sends what the destinations lack, and prunes both sides. The version of a source that keeps none is made by its copy.
func (r *run) saveAndConclude(ctx context.Context) (err error) {
	serves := !r.lacksVersion() && slices.ContainsFunc(r.visits, func(v *visit) bool { return v.away == nil })
	do := func() {
		if !r.surround(ctx, hook.Snapshot, serves && r.report.Copy && r.report.sends, func() { r.save(ctx) }) {
			r.leaveOut(ctx)
		}
		err = r.conclude(ctx)
	}
	if !r.surround(ctx, hook.Transfer, serves, do) {
		r.leaveOut(ctx)
		err = r.conclude(ctx)
	}
	return err
}

// leaveOut treats the destinations as absent, since a phase was refused.
func (r *run) leaveOut(ctx context.Context) {
	for _, v := range r.visits {
		if v.away == nil && ctx.Err() == nil {
			v.away = &absent{v.to.String(), r.whyRefused()}
		}
		v.fail(ctx, v.away)
	}
}

// endUnprepared ends a run that was to take no snapshot. The destinations may hold the newest one that there is.
func (r *run) endUnprepared(ctx context.Context) error {
	for _, v := range r.visits {
		if ctx.Err() == nil {
			v.saved.Absent = r.whyRefused()
		}
	}
	r.settleLedger(context.WithoutCancel(ctx))
	return context.Cause(ctx)
}

func (r *run) whyRefused() string { return cmp.Or(r.report.Skipped, "not tried, since a hook failed") }
