package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// A Runner runs the hooks around the phases of one job.
type Runner struct {
	Hooks        []Hook // of which there is nothing to complain
	Job          string
	Source       string
	Destinations []string
	Log          *slog.Logger
	// Dir is where afters are noted for Finish. It is made when it is missing.
	Dir string

	begun map[Phase][]begun
}

// begun is a hook whose after is to run.
type begun struct {
	Hook
	noted note
}

// A SkipError tells that a hook wants the job to be skipped, which is no failure.
type SkipError struct {
	Reason string
	After  error // what failed in the afters that ran in consequence
}

func (e *SkipError) Error() string { return e.Reason }

// A CriticalError is a failure that is to end the whole run.
type CriticalError struct{ error }

func (e *CriticalError) Unwrap() error { return e.error }

// statusSkip is what a before ends with to have the job skipped. sysexits.h: EX_TEMPFAIL
const statusSkip = 75

// Before runs the befores of a phase. If one fails, all that ran before it is over: its afters have run. A SkipError is no failure.
func (r *Runner) Before(ctx context.Context, phase Phase) error {
	for _, h := range r.Hooks {
		if h.phase() != phase {
			continue
		}
		err := r.before(ctx, h)
		var skip *SkipError
		switch isSkip := errors.As(err, &skip); {
		case err == nil:
		case isSkip:
			skip.After = r.After(ctx, phase, "", err)
			return skip
		case h.Optional && ctx.Err() == nil:
			r.Log.Warn(err.Error())
		default:
			return errors.Join(h.weigh(err), r.After(ctx, phase, "", err))
		}
	}
	return nil
}

// After runs the afters of a phase whose befores ran, in reverse, also when ctx has ended. They are told how the phase ended, and of
// which snapshot it was, if it is known.
func (r *Runner) After(ctx context.Context, phase Phase, snapshot string, ended error) error {
	ctx = context.WithoutCancel(ctx)
	status := "ok"
	switch {
	case errors.As(ended, new(*SkipError)):
		status = "skipped"
	case ended != nil:
		status = "failed"
	}
	var errs []error
	for _, b := range slices.Backward(r.begun[phase]) {
		if len(b.After) > 0 {
			if err := b.noted.run(ctx, r.Log, result{snapshot, status, ended}); err != nil {
				errs = append(errs, b.weigh(err))
			}
			r.forget(ctx, b.noted)
		}
	}
	delete(r.begun, phase)
	return errors.Join(errs...)
}

// before notes the after of a hook, and runs its before.
func (r *Runner) before(ctx context.Context, h Hook) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	b := begun{h, note{Hook: h.title(), Phase: h.phase(), After: h.After, User: h.User, Timeout: h.Timeout, Optional: h.Optional,
		Job: r.Job, Source: r.Source, Destination: strings.Join(r.Destinations, "\n")}}
	if len(h.After) > 0 {
		if err := b.noted.add(ctx, r.Dir); err != nil {
			r.Log.Warn(fmt.Sprintf("hook %s: its after will not run if this program is killed, since it cannot be noted: %v", h.title(), err))
		}
	}
	var err error
	if len(h.Before) > 0 {
		err = program{note: b.noted, argv: h.Before, when: "before"}.run(ctx, r.Log)
	}
	if err != nil && !errors.As(err, new(killedError)) {
		r.forget(ctx, b.noted)
		return err
	}
	if r.begun == nil {
		r.begun = make(map[Phase][]begun)
	}
	r.begun[h.phase()] = append(r.begun[h.phase()], b)
	return err
}

// forget drops the note of an after that ran.
func (r *Runner) forget(ctx context.Context, n note) {
	if err := n.remove(context.WithoutCancel(ctx)); err != nil {
		r.Log.Warn(fmt.Sprintf("hook %s: its after runs once more when the next run begins: %v", n.Hook, err))
	}
}

// weigh makes a failure of the hook critical, if it is.
func (h Hook) weigh(err error) error {
	if h.Critical {
		return &CriticalError{err}
	}
	return err
}
