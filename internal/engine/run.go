package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// run is a Job under way.
type run struct {
	Job
	report    Report
	snapshots side

	ledgerMu sync.Mutex // the destinations are served side by side
}

// Run does the job. What failed stands in the report; the error is about the source, without which there is nothing to do,
// or the end of the context.
func Run(ctx context.Context, job Job) (*Report, error) {
	r := &run{Job: job, report: Report{DryRun: job.DryRun, Source: job.Source.String()}}
	release, err := r.openSource(ctx)
	if err != nil {
		return &r.report, err
	}
	defer release()
	if r.NoSnapshot {
		r.Log.Debug("no snapshot is taken")
	} else if err := r.takeSnapshot(ctx); err != nil {
		r.report.fail(err)
	}
	r.serveAll(ctx)
	if ctx.Err() != nil {
		return &r.report, context.Cause(ctx)
	}
	r.linkLatest(ctx)
	r.pruneSource(ctx)
	if !r.DryRun {
		if err := r.Source.Sync(ctx); err != nil {
			r.report.fail(err)
		}
	}
	return &r.report, nil
}

// openSource opens, locks and lists the source. Without a readable ledger the run goes on, but prunes no snapshots.
func (r *run) openSource(ctx context.Context) (release func(), err error) {
	if err := r.Source.Open(ctx, !r.DryRun); err != nil {
		return nil, err
	}
	release, err = r.lock(ctx, r.Source)
	if err != nil {
		return nil, err
	}
	listing, err := r.Source.List(ctx)
	if err != nil {
		release()
		return nil, err
	}
	r.snapshots = side{Listing: listing, naming: r.Naming}
	r.snapshots.ledger, err = r.Source.Ledger(ctx, r.Naming.Ours)
	if err != nil {
		r.report.fail(err)
	}
	if r.RemoveLocks {
		r.updateLedger(ctx, func(l *lock.Ledger) {
			for _, d := range r.Destinations {
				l.Forget(d.String())
			}
		})
	}
	r.reportNested(ctx)
	return release, nil
}

// A lockable keeps other runs out.
type lockable interface {
	String() string
	Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error)
}

// lock takes the lock of a folder, which a dry run does not need.
func (s Settings) lock(ctx context.Context, f lockable) (release func(), err error) {
	if s.DryRun {
		return func() {}, nil
	}
	waiting := func(held *lock.HeldError) { s.Log.Info(fmt.Sprintf("%s: waiting for %s", f, held.Holder())) }
	if s.NoWait {
		waiting = nil
	}
	unlock, err := f.Lock(ctx, waiting)
	if lock.IsHeld(err) {
		return nil, hint.New(err, "try again later, or leave out --no-wait to wait for it")
	}
	if err != nil {
		return nil, err
	}
	return func() {
		if err := unlock(); err != nil {
			s.Log.Warn(err.Error())
		}
	}, nil
}

func (r *run) reportNested(ctx context.Context) {
	nested, err := r.Source.Nested(ctx)
	if err != nil {
		r.report.fail(err)
	}
	r.report.Nested = nested
	if len(nested) > 0 {
		r.Log.Info(fmt.Sprintf("%s: the subvolumes in it are not part of its snapshots and need backups of their own: %q", r.Source, nested))
	}
}

// takeSnapshot takes the snapshot, in the next second if the name is taken.
func (r *run) takeSnapshot(ctx context.Context) error {
	for {
		now := r.Now()
		name := r.Naming.Name(now)
		taken, err := r.take(ctx, name)
		if errors.Is(err, fs.ErrExist) {
			r.Log.Info(name + " exists already, waiting for the next second")
			if err := wait(ctx, now.Truncate(time.Second).Add(time.Second).Sub(now)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		r.report.Snapshot = name
		r.snapshots.InDirectory = append(r.snapshots.InDirectory, taken)
		r.snapshots.All = append(r.snapshots.All, taken)
		return nil
	}
}

func (r *run) take(ctx context.Context, name string) (btrfs.Subvolume, error) {
	if r.DryRun {
		if slices.ContainsFunc(r.snapshots.InDirectory, func(s btrfs.Subvolume) bool { return s.Name == name }) {
			return btrfs.Subvolume{}, fs.ErrExist
		}
		const newest = 1<<64 - 1
		return btrfs.Subvolume{ID: newest, Name: name, ParentUUID: r.Source.Subvolume().UUID, ReadOnly: true, CreatedIn: newest}, nil
	}
	r.Log.Debug("taking snapshot " + name)
	s, err := r.Source.Take(ctx, name)
	if err == nil {
		r.Log.Info("took snapshot " + name)
	}
	return s, err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// serveAll serves the destinations side by side.
func (r *run) serveAll(ctx context.Context) {
	if r.NoTransfer && r.KeepBackups == (retention.Policy{}) {
		return
	}
	r.report.Destinations = make([]Saved, len(r.Destinations))
	var serving sync.WaitGroup
	for i, d := range r.Destinations {
		serving.Go(func() {
			v := visit{run: r, to: d, saved: &r.report.Destinations[i]}
			v.saved.Destination = d.String()
			v.serve(ctx)
		})
	}
	serving.Wait()
}

// updateLedger changes the ledger and writes it. A dry run changes it in memory only.
func (r *run) updateLedger(ctx context.Context, change func(*lock.Ledger)) {
	r.ledgerMu.Lock()
	defer r.ledgerMu.Unlock()
	l := r.snapshots.ledger
	if l == nil {
		return
	}
	before := string(l.Marshal())
	change(l)
	if r.DryRun || string(l.Marshal()) == before {
		return
	}
	r.Log.Debug("writing the ledger")
	if err := r.Source.WriteLedger(ctx, l); err != nil {
		r.report.fail(err)
		r.snapshots.ledger = nil // what it does not hold must not be deleted
	}
}

// ownSnapshots gives the snapshots of the source, oldest first.
func (r *run) ownSnapshots() []btrfs.Subvolume { return r.snapshots.seriesOf(r.Source.Subvolume()) }

// linkLatest points the link to the newest snapshot, once every destination holds it.
func (r *run) linkLatest(ctx context.Context) {
	ours := r.ownSnapshots()
	failed := len(r.report.AllFailures()) > 0
	saved := r.report.Snapshot != "" || slices.ContainsFunc(r.report.Destinations, func(s Saved) bool { return len(s.Transfers) > 0 })
	if failed || !saved || len(ours) == 0 {
		return
	}
	newest := ours[len(ours)-1].Name
	if !r.DryRun {
		if err := r.Source.Link(ctx, r.Naming.Latest(), newest); err != nil {
			r.report.fail(err)
			return
		}
		r.Log.Debug("latest snapshot is now " + newest)
	}
	r.report.Latest = newest
}

// pruneSource applies the retention to the snapshots, unless this run's snapshot is missing among them or what the
// destinations need is not known.
func (r *run) pruneSource(ctx context.Context) {
	if r.snapshots.ledger == nil || !r.NoSnapshot && r.report.Snapshot == "" {
		if r.KeepSnapshots == (retention.Policy{}) {
			return
		}
		r.Log.Warn(fmt.Sprintf("%s: no snapshots are deleted, since not everything is known that must be kept", r.Source))
		return
	}
	newest := ""
	if ours := r.ownSnapshots(); len(ours) > 0 {
		newest = ours[len(ours)-1].Name
	}
	r.report.Verdicts = pruneSource(r.Source.Subvolume(), r.snapshots, r.KeepSnapshots, r.Now(), newest)
	r.report.Deleted = r.delete(ctx, r.Source, deletions(r.report.Verdicts), r.report.fail)
	r.updateLedger(ctx, func(l *lock.Ledger) {
		l.DropMissing(func(name string) bool {
			return !slices.Contains(r.report.Deleted, name) &&
				slices.ContainsFunc(r.snapshots.InDirectory, func(s btrfs.Subvolume) bool { return s.Name == name })
		})
	})
}

func deletions(verdicts []retention.Verdict) []string {
	var names []string
	for _, v := range verdicts {
		if !v.Keep {
			names = append(names, v.Name)
		}
	}
	return names
}

// A deleter deletes what it can of the named snapshots or backups; it gives the names of those deleted, and every failure.
type deleter interface {
	String() string
	Delete(ctx context.Context, names []string) (deleted []string, err error)
}

// delete gives back the names of those that it deleted, or in a dry run would.
func (s Settings) delete(ctx context.Context, f deleter, names []string, fail func(error)) []string {
	if len(names) == 0 || s.DryRun {
		return names
	}
	s.Log.Info(fmt.Sprintf("%s: deleting %d: %s", f, len(names), abbreviate(names)))
	deleted, err := f.Delete(ctx, names)
	if err != nil {
		fail(err)
	}
	return deleted
}

// abbreviate names a few of many.
func abbreviate(names []string) string {
	const few = 4
	if len(names) <= few {
		return strings.Join(names, " ")
	}
	return strings.Join(names[:few], " ") + " ..."
}
