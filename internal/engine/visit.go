package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/ladder"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// visit is the serving of one destination.
type visit struct {
	*run
	to     Destination
	lister Lister // nil: the destination cannot be listed
	saved  *DestinationReport

	known   bool     // backups were made there
	away    error    // why it cannot be served
	refused bool     // since nothing may be made there, and not for lack of a program
	missing bool     // it is to be created
	failed  bool     // it was not served, and so not listed
	putOff  bool     // it is in use, and to be served later
	former  []string // names by which the ledger may know it, too
	noPrune error
	broken  error
	seen    Contents             // by Attempt.Look
	peers   []retention.Snapshot // what other members of a set hold at the same destination, or will
	planner plan.Planner
	plan    Plan

	descriptions descriptions
}

func newVisit(r *run, to Destination, saved *DestinationReport) *visit {
	v := &visit{run: r, to: to, saved: saved}
	v.lister, _ = to.(Lister)
	saved.Destination = to.String()
	return v
}

// serve lists the destination, plans, cleans up, saves, and prunes if everything was saved.
func (v *visit) serve(ctx context.Context) {
	release, err := v.enter(ctx)
	if v.putOff = errors.Is(err, errPutOff); v.putOff {
		v.recordOutstanding(ctx)
		return
	}
	if err != nil {
		v.fail(ctx, err)
		return
	}
	defer release()
	v.tellInTheWay()
	var undeleted error
	v.saved.Leftovers = v.delete(ctx, v.to, v.lister, v.plan.Leftovers, func(err error) { undeleted = err })
	v.saveAll(ctx)
	v.record(ctx)
	v.descriptions.making.Wait()
	v.conclude(ctx)
	for _, failure := range append(v.descriptions.failures, undeleted, v.broken) { // that keep nothing from being saved and deleted
		if failure != nil {
			v.saved.fail(failure)
		}
	}
}

// fail reports that the destination could not be served, and records what it lacks.
func (v *visit) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", v.to, context.Cause(ctx))
	}
	if why := new(absent); errors.As(v.away, &why) {
		v.saved.Absent = why.why
	} else {
		v.saved.fail(err)
	}
	if v.Forget && v.away != nil { // its snapshots are to be released
		return
	}
	v.failed = true
	if wasReached := v.known || v.away == nil && !v.missing; wasReached && !v.NoTransfer {
		v.recordOutstanding(context.WithoutCancel(ctx))
	}
}

// mayNeedAny tells that the destination was not looked at, and that the snapshot which its next increment needs is not known. What
// the ledger names may be gone: a run that cannot write it deletes what was superseded.
func (v *visit) mayNeedAny() bool {
	isCommon := func(s btrfs.Subvolume) bool { return v.snapshots.Ledger.IsCommon(v.to.String(), s.Name) }
	return v.failed && !slices.ContainsFunc(v.ownSnapshots(), isCommon)
}

// recordOutstanding notes in the ledger that the destination lacks the newest snapshot.
func (v *visit) recordOutstanding(ctx context.Context) {
	ours := v.ownSnapshots()
	if len(ours) == 0 || v.NoTransfer {
		return
	}
	v.updateLedger(ctx, func(l *lock.Ledger) { l.SetOutstanding(v.to.String(), ours[len(ours)-1].Name) })
}

func (v *visit) keepBackups() retention.Policy {
	if policy, ok := v.KeepAt[v.to.String()]; ok {
		return policy
	}
	return v.KeepBackups
}

// prepare makes the plan.
func (v *visit) prepare(ctx context.Context, found Contents) error {
	if err := v.checkMounted(found); err != nil {
		return err
	}
	v.former = v.formerNames(found.Identity)
	v.planner = v.plannerOf(found)
	p := &v.planner
	v.noPrune, v.broken, v.saved.Free = found.NoPrune, found.Broken, found.Free
	switch {
	case v.history == nil:
		if err := v.nameVersion(ctx, found); err != nil {
			return err
		}
	case v.lister == nil:
		if err := v.assume(); err != nil {
			return err
		}
	}
	p.Now = v.Now() // the version may be named by a second that was waited for
	v.plan = p.Plan()
	v.tellForeign()
	v.tellPartial()
	return nil
}

// plannerOf gives the planner for what the destination holds.
func (v *visit) plannerOf(found Contents) plan.Planner {
	v.ledgerMu.Lock()
	snapshots := v.snapshots
	v.ledgerMu.Unlock()
	p := plan.Planner{
		History: v.history != nil, Source: v.source, Snapshots: snapshots, Backups: plan.Side{Naming: v.Naming}, Now: v.Now(), Peers: v.peers,
		Keep: v.keepBackups(), Transfer: !v.NoTransfer, Incremental: !v.NoIncremental, Clean: v.CleanPartial,
	}
	p.Backups.Listing, p.Backups.Ledger, p.Recorded, p.Chains = found.Listing, found.Ledger, found.Recorded, found.Chains.Clone()
	p.Snapshots.Record.Origins, p.Snapshots.Record.Held = found.Origins, found.Held
	p.MayLive, p.Backups.InUse, p.Keeps, p.Deleting, p.Taken = found.MayLive, found.InUse, found.Keeps, found.Deleting, found.Taken
	return p
}

// tellForeign tells of backups that have a name of the series, and that the policy does not apply to.
func (v *visit) tellForeign() {
	if foreign := v.plan.Foreign; len(foreign) > 0 && v.keepBackups() != (retention.Policy{}) {
		v.Log.Info(fmt.Sprintf("%s: %d left alone: %s", v.to, len(foreign), plan.WhyKept(foreign)))
	}
}

// nameVersion finds a name for the version of a source that keeps none.
func (v *visit) nameVersion(ctx context.Context, found Contents) error {
	if v.Automatic && !slices.ContainsFunc(found.Recorded, func(c Recorded) bool { return v.Naming.Ours(c.Name) }) &&
		slices.ContainsFunc(found.Received, v.Naming.Ours) {
		return hint.New(fmt.Errorf("destination %s: holds backups of a btrfs subvolume, but %s is a directory", v.to, v.Source),
			"is the source's filesystem mounted? --engine rsync copies the directory into this folder")
	}
	name, err := v.version, error(nil)
	if name == "" {
		name, err = v.freeName(ctx, found.names(), func(name string) error {
			if found.isTaken(name) {
				return fs.ErrExist
			}
			return nil
		})
	} else if found.isTaken(name) && v.NoSnapshot { // it was saved together with that snapshot
		return nil
	} else if found.isTaken(name) {
		return fmt.Errorf("saving %s to %s: %w", name, v.to, fs.ErrExist)
	}
	v.planner.Snapshots.InDirectory = []btrfs.Subvolume{plan.Pending(name, btrfs.UUID{})}
	return err
}

// isTaken tells that a name is that of something there.
func (c Contents) isTaken(name string) bool { return slices.Contains(c.names(), name) }

// names gives those that no new backup can have.
func (c Contents) names() []string {
	names := append(slices.Clone(c.Taken), plan.NamesOf(c.InDirectory)...)
	for _, r := range c.Recorded {
		names = append(names, r.Name)
	}
	return names
}

// assume takes a destination that cannot be listed to hold the newest snapshot that the ledger says, and to need nothing older.
func (v *visit) assume() error {
	v.ledgerMu.Lock()
	ledger := v.snapshots.Ledger
	v.ledgerMu.Unlock()
	if ledger == nil {
		return hint.New(fmt.Errorf("%s: only the ledger tells which snapshots were sent there, and it cannot be read", v.to),
			"repair the ledger first")
	}
	p := &v.planner
	p.Keep, p.WriteOnly = retention.Policy{}, true
	for _, s := range v.ownSnapshots() {
		if ledger.IsCommon(v.to.String(), s.Name) && (s.AlteredIn == 0 || v.snapshots.IsHistoryOf(v.source)) {
			p.NewestSent = &s
			p.Backups.InDirectory = []btrfs.Subvolume{plan.Assumed(s)}
		}
	}
	return nil
}

// saveAll saves what the destination lacks. After a failure only the newest of the rest is tried: it is worth most, and a
// destination that fails twice is left alone.
func (v *visit) saveAll(ctx context.Context) {
	rest := v.plan.Transfers
	if len(rest) > 0 && !v.DryRun {
		v.Log.Info(fmt.Sprintf("%s: %d to send", v.to, len(rest)))
		v.recordOutstanding(ctx)
		if err := v.mark(ctx); err != nil {
			v.saved.fail(err)
			return
		}
	}
	failures := 0
	for len(rest) > 0 && ctx.Err() == nil {
		sent := v.save(ctx, rest[0])
		rest = rest[1:]
		if sent.unchanged {
			v.planner.Snapshots.InDirectory = nil // there is no such version
			v.plan = v.planner.Plan()
			continue
		}
		v.saved.Transfers = append(v.saved.Transfers, sent)
		if sent.Failure == nil {
			continue
		}
		if failures++; failures > 1 || ladder.IsAboutDestination(sent.Failure.Err) || v.lister == nil {
			return // what a destination that cannot be listed lacks is known only if it gets all in order
		}
		if len(rest) > 0 {
			rest = []Transfer{slices.MaxFunc(rest, func(a, b Transfer) int { return kin.ByAge(a.Snapshot, b.Snapshot) })}
		}
	}
}

// record notes in the ledger what the destination holds now and needs here, and the newest snapshot that it lacks.
func (v *visit) record(ctx context.Context) {
	sent := make(map[string]bool)
	for _, t := range v.saved.Transfers {
		sent[t.Snapshot] = sent[t.Snapshot] || t.Failure == nil
	}
	common, lacking := v.planner.Settle(v.plan, sent)
	v.continueWith(v.planner.Snapshots.Line(v.source))
	v.updateLedger(context.WithoutCancel(ctx), func(l *lock.Ledger) {
		for _, name := range v.former {
			l.Forget(name)
		}
		l.SetCommon(v.to.String(), common...)
		if !v.NoTransfer {
			l.SetOutstanding(v.to.String(), lacking)
		}
	})
}

// conclude points the link of the destination to the newest backup, and prunes if nothing failed.
func (v *visit) conclude(ctx context.Context) {
	if v.planner.Incomplete || v.planner.Chains != nil { // what was made was not known when it was planned
		v.plan = v.planner.Plan()
	}
	if v.lister != nil {
		v.saved.Verdicts = v.plan.Verdicts
	}
	if v.saved.Failed() {
		return
	}
	if linker, ok := v.to.(Linker); ok && len(v.saved.Transfers) > 0 && !v.DryRun {
		newest := v.saved.Transfers[len(v.saved.Transfers)-1].Snapshot
		if err := linker.Link(ctx, v.Naming.Latest(), newest); err != nil {
			v.saved.fail(err)
			return
		}
	}
	if v.noPrune != nil {
		v.saved.Verdicts = nil
		v.saved.fail(v.noPrune)
		return
	}
	if ctx.Err() == nil && (!v.inSet || v.DryRun) {
		v.tellInUse(v.to, v.plan.Verdicts, v.planner.Backups)
		v.saved.Deleted = v.delete(ctx, v.to, v.lister, v.plan.Delete, v.saved.fail)
	}
}
