package engine

import (
	"context"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// An Attempt is a Job under way as a member of a set: of several whose versions bear one name, and on which the retention decides
// as on one. What Run does at one go, it does in phases, which are called in the order in which they stand here.
type Attempt struct {
	*run
	locked  bool
	taken   btrfs.Subvolume
	sources *plan.Considered
}

// Begin opens the source, looks at it and at the destinations, and makes nothing. The source is locked until Release, and again
// from Resume on.
func Begin(ctx context.Context, job Job) (*Attempt, error) {
	a := &Attempt{run: newRun(job), locked: true}
	a.inSet = true
	err := a.begin(ctx)
	if err != nil {
		a.Release()
	}
	return a, err
}

// Release gives up the lock of the source, unless that would lose what its ledger is to say.
func (a *Attempt) Release() {
	if a.DryRun || !a.locked || a.unwritten != nil {
		return
	}
	a.release()
	a.release, a.locked = func() {}, false
}

// Resume locks the source again, and lists it.
func (a *Attempt) Resume(ctx context.Context) error {
	if a.locked {
		return nil
	}
	a.locked = true
	return a.openHistory(ctx)
}

// Report tells what was done so far.
func (a *Attempt) Report() *Report { return &a.report }

// Refuse tells whether there is nobody to make a backup for, and reports that.
func (a *Attempt) Refuse(ctx context.Context) bool {
	futile := isFutile(a.visits)
	if futile {
		a.serveAll(ctx, a.visits)
	}
	return futile
}

// EndUnprepared ends the work when no snapshot may be taken now, for a reason.
func (a *Attempt) EndUnprepared(ctx context.Context, why string) {
	a.report.Skipped = why
	_ = a.endUnprepared(ctx) // the end of ctx
}

// LeaveOut treats the destinations as absent, for a reason.
func (a *Attempt) LeaveOut(ctx context.Context, why string) {
	a.report.Skipped = why
	a.leaveOut(ctx)
}

// Look lists the destinations.
func (a *Attempt) Look(ctx context.Context) {
	var looking sync.WaitGroup
	for _, v := range a.visits {
		if v.away == nil && !v.missing && v.lister != nil {
			looking.Go(func() {
				if v.seen, v.away = v.lister.List(ctx); v.away == nil {
					v.away = v.checkMounted(v.seen)
					v.refused = v.away != nil
				}
			})
		}
	}
	looking.Wait()
}

// Refused tells why nothing may be made at a destination; nil if it may, or if nobody wants it to be served now.
func (a *Attempt) Refused(to Destination) error {
	if v := a.visitTo(to); v != nil && v.refused && !v.isAbsent() {
		return v.away
	}
	return nil
}

// RefuseAt lets nothing be made at a destination.
func (a *Attempt) RefuseAt(to Destination, why error) {
	if v := a.visitTo(to); v != nil && v.away == nil {
		v.away, v.refused = why, true
	}
}

// IsTaken tells that a name cannot be that of a new version, since something at a destination has it.
func (a *Attempt) IsTaken(name string) bool {
	for _, v := range a.visits {
		if v.seen.isTaken(name) {
			return true
		}
	}
	return false
}

// Snapshots gives the names of the snapshots that can be sent, oldest first.
func (a *Attempt) Snapshots() []string { return plan.NamesOf(a.ownSnapshots()) }

// Take takes the snapshot, of a source that keeps any. A name that is taken is fs.ErrExist.
func (a *Attempt) Take(ctx context.Context, name string) (err error) {
	switch a.version = name; {
	case a.history == nil || a.NoSnapshot:
		return nil
	case a.found.NoTake != nil:
		return a.found.NoTake
	}
	a.taken, err = a.take(ctx, name)
	return err
}

// Discard deletes the snapshot that was taken.
func (a *Attempt) Discard(ctx context.Context) error {
	if a.taken.Name == "" || a.DryRun {
		return nil
	}
	_, err := a.history.Delete(ctx, []string{a.taken.Name})
	a.taken = btrfs.Subvolume{}
	return err
}

// Settle tells what no version holds, and counts the snapshot among the others.
func (a *Attempt) Settle(ctx context.Context) {
	a.reportOmitted(ctx)
	a.forget(ctx)
	if a.taken.Name == "" {
		return
	}
	if err := a.noteTaken(ctx, a.taken); err != nil {
		a.report.fail(err)
	}
}

// Candidates gives what the retention at a destination applies to: what it holds, and is to get.
func (a *Attempt) Candidates(to Destination) []retention.Snapshot {
	v := a.visitTo(to)
	if v == nil || v.away != nil {
		return nil
	}
	p := v.plannerOf(v.seen)
	if a.history == nil {
		p.Snapshots.InDirectory = []btrfs.Subvolume{plan.Pending(a.version, btrfs.UUID{})}
	}
	return p.Candidates()
}

// Join lets the retention at a destination decide as if the candidates of others were there, too.
func (a *Attempt) Join(to Destination, peers []retention.Snapshot) {
	if v := a.visitTo(to); v != nil {
		v.peers = peers
	}
}

func (a *Attempt) visitTo(to Destination) *visit {
	for _, v := range a.visits {
		if v.to == to {
			return v
		}
	}
	return nil
}

// Save brings to the destinations what they lack, and deletes nothing there.
func (a *Attempt) Save(ctx context.Context) { a.save(ctx) }

// Failed tells that a destination was not served completely, so that nothing is to be deleted there.
func (a *Attempt) Failed(to Destination) bool {
	v := a.visitTo(to)
	return v == nil || v.away != nil || v.missing || v.noPrune != nil || v.saved.Failed()
}

// A Shelf is what a destination holds of a member, and locked.
type Shelf struct {
	Complete   []string // names of complete backups, oldest first
	Candidates []retention.Snapshot
	Release    func()

	visit   *visit
	planner plan.Planner
}

// Shelf locks a destination and lists it; it is nil if the destination was not served.
func (a *Attempt) Shelf(ctx context.Context, to Destination) (*Shelf, error) {
	v := a.visitTo(to)
	if v == nil || v.away != nil || v.missing || v.failed || v.lister == nil {
		return nil, nil
	}
	release, err := v.Lock(ctx, v.to, v.lister, !v.NoWait)
	if err != nil {
		return nil, err
	}
	found, err := v.lister.List(ctx)
	if err != nil {
		release()
		return nil, err
	}
	s := &Shelf{Release: release, visit: v, planner: v.plannerOf(found)}
	p := &s.planner
	p.Transfer = false
	s.Candidates, s.Complete = p.Candidates(), p.Complete()
	return s, nil
}

// Decide applies the retention to the shelf as if the candidates of others were there, too, and gives the names of what is to go.
func (s *Shelf) Decide(peers []retention.Snapshot) []string {
	s.planner.Peers = peers
	s.visit.plan = s.planner.Plan()
	s.visit.saved.Verdicts = s.visit.plan.Verdicts
	return s.visit.plan.Delete
}

// Prune deletes what Decide gave.
func (s *Shelf) Prune(ctx context.Context) {
	v := s.visit
	v.tellInUse(v.to, v.plan.Verdicts, s.planner.Backups)
	v.saved.Deleted = v.delete(ctx, v.to, v.lister, v.plan.Delete, v.saved.fail)
}

// Consider gives what the retention at the source applies to, and false if nothing may be deleted there.
func (a *Attempt) Consider() (candidates []retention.Snapshot, ok bool) {
	if a.history == nil || a.found.ReadOnly {
		return nil, true
	}
	var err error
	if a.sources, err = a.considerSource(); err != nil {
		a.report.fail(err)
	}
	if a.sources == nil {
		return nil, false
	}
	return a.sources.Candidates, true
}

// Conclude ends the work at the source, where the retention decides as if the candidates of others were there, too.
func (a *Attempt) Conclude(ctx context.Context, prune bool, peers []retention.Snapshot) {
	if ctx.Err() != nil {
		a.settleLedger(context.WithoutCancel(ctx))
		return
	}
	a.concludeBy(ctx, func(ctx context.Context) {
		if prune && a.sources != nil {
			a.deleteSnapshots(ctx, append(a.sources.Foreign, plan.DecideAmong(a.KeepSnapshots, a.Now(), a.sources.Candidates, peers)...))
		}
	})
}
