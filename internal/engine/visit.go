package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// visit is the serving of one destination.
type visit struct {
	*run
	to    Destination
	saved *Saved

	backups side
	plan    Plan
}

// serve lists the destination, plans, cleans up, sends, and prunes if everything was sent.
func (v *visit) serve(ctx context.Context) {
	release, err := v.arrive(ctx)
	if err != nil {
		v.fail(ctx, err)
		return
	}
	defer release()
	v.saved.Leftovers = v.delete(ctx, v.to, v.plan.Leftovers, v.saved.fail)
	v.sendAll(ctx)
	v.record(ctx)
	v.saved.Verdicts = v.plan.Verdicts
	if !v.saved.failed() && ctx.Err() == nil {
		v.saved.Deleted = v.delete(ctx, v.to, v.plan.Delete, v.saved.fail)
	}
}

// fail reports that the destination could not be served, and records what it lacks.
func (v *visit) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", v.to, context.Cause(ctx))
	}
	v.saved.fail(err)
	if !v.NoTransfer {
		v.recordOutstanding(context.WithoutCancel(ctx))
	}
}

// recordOutstanding notes in the ledger that the destination lacks the newest snapshot.
func (v *visit) recordOutstanding(ctx context.Context) {
	ours := v.ownSnapshots()
	if len(ours) == 0 {
		return
	}
	v.updateLedger(ctx, func(l *lock.Ledger) { l.SetOutstanding(v.to.String(), ours[len(ours)-1].Name) })
}

// arrive opens and locks the destination, and makes the plan.
func (v *visit) arrive(ctx context.Context) (release func(), err error) {
	v.backups.naming = v.Naming
	known := v.known()
	err = v.to.Open(ctx, !known && !v.DryRun)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && known:
		return nil, hint.New(err, "backups may have been made there before: is its disk mounted? To begin anew there, create the folder")
	case missing && v.DryRun: // it would be created
		v.plan = v.planner(nil).plan()
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	if v.to.Place() == v.Source.Place() {
		return nil, hint.New(fmt.Errorf("%s: the destination is the folder of the snapshots themselves", v.to), "choose another folder")
	}
	if release, err = v.lock(ctx, v.to); err != nil {
		return nil, err
	}
	if err := v.prepare(ctx, known); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// prepare lists the destination and makes the plan.
func (v *visit) prepare(ctx context.Context, known bool) (err error) {
	if v.writeOnly() {
		return v.assume()
	}
	if v.backups, err = v.list(ctx); err != nil {
		return err
	}
	origins, err := v.to.Origins(ctx)
	if err != nil {
		return err
	}
	if known && v.looksUnmounted() {
		return hint.New(fmt.Errorf("%s: none of the backups made there before is there, and it lies on the source's filesystem", v.to),
			"is its disk mounted? To begin anew there, use --remove-locks once")

	}
	v.plan = v.planner(origins).plan()
	return nil
}

func (v *visit) writeOnly() bool {
	_, ok := v.to.(WriteOnly)
	return ok
}

// assume plans for a destination that cannot be listed: it is taken to hold the newest snapshot that the ledger says, and to
// need nothing older. A new one begins with the newest.
func (v *visit) assume() error {
	v.ledgerMu.Lock()
	ledger := v.snapshots.ledger
	v.ledgerMu.Unlock()
	if ledger == nil {
		return hint.New(fmt.Errorf("%s: what was sent there is not known without the ledger", v.to), "repair the ledger first")
	}
	p := v.planner(nil)
	p.keep, p.writeOnly = retention.Policy{}, true
	for _, s := range v.ownSnapshots() {
		if ledger.IsCommon(v.to.String(), s.Name) {
			p.newestSent = &s
			p.backups.InDirectory = []btrfs.Subvolume{assumedCopy(s)}
		}
	}
	v.backups = p.backups
	v.plan = p.plan()
	v.plan.Verdicts = nil
	return nil
}

// assumedCopy is a backup that nobody can look at.
func assumedCopy(s btrfs.Subvolume) btrfs.Subvolume {
	return btrfs.Subvolume{ID: s.ID, Name: s.Name, UUID: s.UUID, ReceivedUUID: s.Identity(), ReadOnly: true}
}

func (v *visit) planner(origins map[btrfs.UUID]btrfs.UUID) planner {
	return planner{
		source: v.Source.Subvolume(), snapshots: v.snapshots, backups: v.backups, origins: origins,
		keep: v.KeepBackups, now: v.Now(), transfer: !v.NoTransfer, incremental: !v.NoIncremental,
	}
}

// known tells whether the destination is on record as holding a backup, as any may be when there is no record.
func (v *visit) known() bool {
	v.ledgerMu.Lock()
	defer v.ledgerMu.Unlock()
	return v.snapshots.ledger == nil || v.snapshots.ledger.Knows(v.to.String())
}

func (v *visit) list(ctx context.Context) (side, error) {
	listing, err := v.to.List(ctx)
	if err != nil {
		return side{}, err
	}
	// where the destination is a source for others, their needs count
	ledger, err := v.to.Ledger(ctx, v.Naming.Ours)
	return side{Listing: listing, naming: v.Naming, ledger: ledger}, err
}

// looksUnmounted tells that the folder is the empty place where a disk should be mounted.
func (v *visit) looksUnmounted() bool {
	return len(v.backups.InDirectory) == 0 && v.to.Place().Filesystem == v.Source.Place().Filesystem
}

// sendAll sends what the destination lacks. After a failure only the newest of the rest is tried: it is worth most, and a
// destination that fails twice is left alone.
func (v *visit) sendAll(ctx context.Context) {
	rest := v.plan.Transfers
	if len(rest) > 0 && !v.DryRun {
		v.Log.Info(fmt.Sprintf("%s: going to send %d", v.to, len(rest)))
		v.recordOutstanding(ctx)
	}
	failures := 0
	for len(rest) > 0 && ctx.Err() == nil {
		sent := v.send(ctx, rest[0])
		rest = rest[1:]
		v.saved.Transfers = append(v.saved.Transfers, sent)
		if sent.Failure == nil {
			continue
		}
		if failures++; failures > 1 || isAboutDestination(sent.Failure.Err) || v.writeOnly() {
			return // what a destination that cannot be listed lacks is known only if it gets all in order
		}
		if len(rest) > 0 {
			rest = []Transfer{slices.MaxFunc(rest, func(a, b Transfer) int { return byAge(a.Snapshot, b.Snapshot) })}
		}
	}
}

// record notes in the ledger the newest snapshot that the destination holds now, and the newest one that it lacks.
func (v *visit) record(ctx context.Context) {
	present := findCopies(v.backups.InDirectory)
	sent := func(s btrfs.Subvolume) bool {
		return slices.ContainsFunc(v.saved.Transfers, func(t Sent) bool { return t.Snapshot == s.Name && t.Failure == nil })
	}
	common, lacking := "", ""
	for _, s := range v.ownSnapshots() {
		if len(present.of(s)) > 0 || sent(s) {
			common = s.Name
		}
	}
	for _, t := range v.plan.Transfers {
		if !sent(t.Snapshot) {
			lacking = t.Snapshot.Name
		}
	}
	v.updateLedger(context.WithoutCancel(ctx), func(l *lock.Ledger) {
		l.SetCommon(v.to.String(), common)
		if !v.NoTransfer {
			l.SetOutstanding(v.to.String(), lacking)
		}
	})
}
