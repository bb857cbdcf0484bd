package engine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// A Standing is what there is of a source.
type Standing struct {
	Source       string
	Created      time.Time // of the source, if it is a subvolume
	History      bool      // the source keeps snapshots
	Snapshots    plan.Kept // of such a source
	Same         string    // the snapshot since which nothing changed, if the job is for changes only
	Err          error     // why the source could not be looked at
	Destinations []StandingAt
}

// StandingAt is what there is at one destination.
type StandingAt struct {
	Destination string
	plan.Kept
	Complete []string // names of the complete backups, oldest first
	Free     *uint64  // bytes; nil: unknown
	OnRecord bool     // the destination cannot be listed: Newest is that of the ledger, and the rest unknown
	Absent   string   // why it is absent on purpose
	Err      error    // why it is not known what there is; otherwise as with OnRecord
	Broken   error    // which backups are not what they were
}

// Survey tells what there is of a job's source, by the rules by which a run plans. It takes no lock and changes nothing. The source
// and the destinations are asked at once; each may fail alone, or not answer until the context ends. The parts of the job
// are of no use afterwards.
func Survey(ctx context.Context, job Job) *Standing {
	r := newRun(job)
	s := &Standing{Source: job.Source.String(), History: r.history != nil, Destinations: make([]StandingAt, len(job.Destinations))}
	visits, opened, contents := make([]*visit, len(job.Destinations)), make([]error, len(job.Destinations)), make([]Contents, len(job.Destinations))
	var asking sync.WaitGroup
	asking.Go(func() {
		found, err := Ask(ctx, job.Source, r.lookAtSource)
		s.Err = err
		r.listed(found)
	})
	for i, d := range job.Destinations {
		visits[i] = newVisit(r, d, &DestinationReport{})
		asking.Go(func() { contents[i], opened[i] = Ask(ctx, d, visits[i].look) })
	}
	asking.Wait()
	r.recall()
	r.readUsed()
	if s.Err == nil {
		s.Same = r.same
	}
	s.Created, s.Snapshots = r.source.Created, r.Naming.SumUp(r.Now(), plan.NamesOf(r.unaltered()))
	for i, v := range visits {
		at := &s.Destinations[i]
		v.known = v.isKnown()
		if v.away = v.opened(opened[i]); v.away == nil && !v.missing {
			*at, v.away = v.standing(contents[i], s.Err)
		}
		at.Destination, at.Err = v.to.String(), v.away
		if at.Err != nil || at.OnRecord {
			at.Newest = v.onRecord()
		}
		if v.isAbsent() {
			at.Absent = v.to.(*absent).why
		}
	}
	return s
}

// Ask waits for a look at something no longer than the context lasts. What hangs in the kernel hears of no context, and is left
// alone. Afterwards, it is closed.
func Ask[T any](ctx context.Context, what fmt.Stringer, look func(context.Context) (T, error)) (found T, err error) {
	done := make(chan struct{})
	var there T
	var thereErr error
	go func() {
		defer close(done)
		there, thereErr = look(ctx)
		if c, ok := what.(io.Closer); ok {
			_ = c.Close() // nothing was written
		}
	}()
	select {
	case <-done:
		if thereErr == nil || ctx.Err() == nil {
			return there, thereErr
		}
	case <-ctx.Done():
	}
	return found, fmt.Errorf("%s: %w", what, context.Cause(ctx))
}

func (r *run) lookAtSource(ctx context.Context) (found Snapshots, err error) {
	if err = r.Source.Open(ctx); err == nil && r.history != nil {
		found, err = r.history.List(ctx, r.Naming.Ours)
	}
	if err == nil {
		r.same, err = r.sameAs(ctx, found)
	}
	return found, err
}

// unaltered gives the snapshots that hold what the source held. Others may be sent, but a new one is to be taken.
func (r *run) unaltered() []btrfs.Subvolume {
	isHistory := r.snapshots.IsHistoryOf(r.source)
	return slices.DeleteFunc(r.ownSnapshots(), func(s btrfs.Subvolume) bool { return s.AlteredIn != 0 && !isHistory })
}

func (v *visit) look(ctx context.Context) (found Contents, err error) {
	if opener, ok := v.to.(Opener); ok {
		err = opener.Open(ctx)
	}
	if err == nil && v.lister != nil {
		found, err = v.lister.List(ctx)
	}
	return found, err
}

// standing tells what was found at the destination. Without the source, the records tell whose backups they are.
func (v *visit) standing(found Contents, sourceErr error) (at StandingAt, err error) {
	if err := v.checkMounted(found); err != nil {
		return at, err
	}
	if at.OnRecord = v.lister == nil; at.OnRecord {
		return at, nil
	}
	untold := hint.New(fmt.Errorf("destination %s: whose backups there are cannot be told without the source", v.to), hint.Of(sourceErr))
	switch p := v.plannerOf(found); {
	case v.history == nil && sourceErr != nil && slices.ContainsFunc(found.Received, v.Naming.Ours): // it may be no subvolume at present
		return at, untold
	case v.history == nil || sourceErr == nil:
		at.Complete = p.Complete()
	case len(v.snapshots.Record.Sources) == 0:
		return at, untold
	default:
		at.Complete = p.CompleteOf(v.snapshots.Record.Sources)
	}
	at.Kept, at.Free, at.Broken = v.Naming.SumUp(v.Now(), at.Complete), found.Free, found.Broken
	return at, nil
}

// onRecord gives the date of the newest snapshot that the destination holds as the ledger says.
func (v *visit) onRecord() (newest time.Time) {
	for _, s := range v.ownSnapshots() {
		if v.snapshots.Ledger != nil && v.snapshots.Ledger.IsCommon(v.to.String(), s.Name) {
			newest = v.Naming.SumUp(v.Now(), []string{s.Name}).Newest
		}
	}
	return newest
}
