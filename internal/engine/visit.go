package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// visit is the serving of one destination.
type visit struct {
	*run
	to     Destination
	lister Lister // nil: the destination cannot be listed
	saved  *DestinationReport

	missing bool // it would be created, but for the dry run
	noPrune error
	planner planner
	plan    Plan
}

func newVisit(r *run, to Destination, saved *DestinationReport) *visit {
	v := &visit{run: r, to: to, saved: saved}
	v.lister, _ = to.(Lister)
	v.planner = planner{
		history: r.history != nil, source: r.source, snapshots: r.snapshots, backups: side{naming: r.Naming},
		keep: r.KeepBackups, transfer: !r.NoTransfer, incremental: !r.NoIncremental, clean: r.CleanPartial,
	}
	return v
}

// serve lists the destination, plans, cleans up, saves, and prunes if everything was saved.
func (v *visit) serve(ctx context.Context) {
	release, err := v.arrive(ctx)
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
	v.conclude(ctx)
	if undeleted != nil { // which kept nothing from being saved, and no other backup from being deleted
		v.saved.fail(undeleted)
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
	known := v.known()
	if opener, ok := v.to.(Opener); ok {
		err = opener.Open(ctx, !known && !v.DryRun)
	}
	switch v.missing = errors.Is(err, fs.ErrNotExist); {
	case v.missing && known:
		return nil, hint.New(fmt.Errorf("%w, but backups were made there", err), mountIt)
	case v.missing && v.DryRun:
		return func() {}, v.prepare(ctx, Contents{}, false)
	case err != nil:
		return nil, err
	}
	release = func() {}
	if v.lister == nil {
		return release, v.prepare(ctx, Contents{}, known)
	}
	if here, there := dirIDOf(v.Source), dirIDOf(v.to); here == there && here != (btrfs.DirID{}) {
		return nil, hint.New(fmt.Errorf("destination %s: is the snapshot folder of the source", v.to), "choose another folder")
	}
	if release, err = v.lock(ctx, v.to, v.lister); err != nil {
		return nil, err
	}
	contents, err := v.lister.List(ctx)
	if err == nil {
		err = v.prepare(ctx, contents, known)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// mountIt is the hint where a disk may be missing.
const mountIt = "is its disk mounted? --new-destination begins anew there"

func dirIDOf(v any) btrfs.DirID {
	if p, ok := v.(Identified); ok {
		return p.DirID()
	}
	return btrfs.DirID{}
}

// prepare makes the plan.
func (v *visit) prepare(ctx context.Context, found Contents, known bool) error {
	if known && v.looksUnmounted(found) {
		if dated := slices.DeleteFunc(slices.Clone(found.Taken), func(name string) bool { return !v.Naming.Ours(name) }); len(dated) > 0 {
			return hint.New(fmt.Errorf("destination %s: there is no record of %s: its .btrfs-backup is gone", v.to, Few(dated)),
				"bring that directory back, or begin anew beside them with --new-destination: they are never deleted")
		}
		return hint.New(fmt.Errorf("destination %s: the backups that were made there are gone", v.to), mountIt)
	}
	p := &v.planner
	p.backups.Listing, p.backups.ledger, p.recorded = found.Listing, found.Ledger, found.Recorded
	p.snapshots.origins = found.Origins
	p.backups.inUse, p.keepsLast, p.deleting, p.taken = found.InUse, found.KeepsLast, found.Deleting, found.Taken
	v.noPrune = found.NoPrune
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
	p.now = v.Now() // the version may be named by a second that was waited for
	v.plan = p.plan()
	v.tellForeign()
	v.tellPartial()
	return nil
}

// tellForeign tells of backups that have a name of the series, and that the policy does not apply to.
func (v *visit) tellForeign() {
	foreign := v.planner.relation().foreign()
	if len(foreign) == 0 || v.KeepBackups == (retention.Policy{}) {
		return
	}
	var reasons []string
	for _, f := range foreign {
		reasons = append(reasons, f.Reasons...)
	}
	slices.Sort(reasons)
	reasons = slices.Compact(reasons)
	const most = 3
	told := strings.Join(reasons[:min(most, len(reasons))], "; ")
	if len(reasons) > most {
		told += "; ..."
	}
	v.Log.Info(fmt.Sprintf("%s: %d left alone: %s", v.to, len(foreign), told))
}

// nameVersion finds a name for the version of a source that keeps none.
func (v *visit) nameVersion(ctx context.Context, found Contents) error {
	if v.Automatic && !slices.ContainsFunc(found.Recorded, func(c Recorded) bool { return v.Naming.Ours(c.Name) }) &&
		slices.ContainsFunc(found.Received, v.Naming.Ours) {
		return hint.New(fmt.Errorf("destination %s: holds backups of a btrfs subvolume, but %s is a directory", v.to, v.Source),
			"is the source's filesystem mounted? --engine rsync copies the directory into this folder")
	}
	name, err := v.freeName(ctx, func(name string) error {
		if slices.Contains(found.Taken, name) || slices.ContainsFunc(found.Recorded, func(c Recorded) bool { return c.Name == name }) {
			return fs.ErrExist
		}
		return nil
	})
	v.planner.snapshots.InDirectory = []btrfs.Subvolume{pending(name, btrfs.UUID{})}
	return err
}

// assume takes a destination that cannot be listed to hold the newest snapshot that the ledger says, and to need nothing older.
func (v *visit) assume() error {
	v.ledgerMu.Lock()
	ledger := v.snapshots.ledger
	v.ledgerMu.Unlock()
	if ledger == nil {
		return hint.New(fmt.Errorf("%s: only the ledger tells which snapshots were sent there, and it cannot be read", v.to),
			"repair the ledger first")
	}
	p := &v.planner
	p.keep, p.writeOnly = retention.Policy{}, true
	for _, s := range v.ownSnapshots() {
		if ledger.IsCommon(v.to.String(), s.Name) && (s.TouchedIn == 0 || v.snapshots.isHistoryOf(v.source)) {
			p.newestSent = &s
			p.backups.InDirectory = []btrfs.Subvolume{assumedBackup(s)}
		}
	}
	return nil
}

// assumedBackup is a backup at a destination that cannot be listed.
func assumedBackup(s btrfs.Subvolume) btrfs.Subvolume {
	return btrfs.Subvolume{ID: s.ID, Name: s.Name, UUID: s.UUID, ReceivedUUID: s.Identity(), ReadOnly: true, SentIn: s.ChangedIn}
}

// known tells whether the destination is on record as holding a backup, as any may be when there is no record.
func (v *visit) known() bool {
	if v.NewDestination {
		return false
	}
	used, err := v.Used.Knows(v.to.String())
	if err != nil {
		v.Log.Warn(fmt.Sprintf("%s: not checked whether its disk is mounted: the record of destinations cannot be read: %v", v.to, err))
	}
	if v.history == nil {
		return used
	}
	v.ledgerMu.Lock()
	defer v.ledgerMu.Unlock()
	return used || v.snapshots.ledger == nil || v.snapshots.ledger.Knows(v.to.String())
}

// looksUnmounted tells that the destination is the empty place where a disk should be mounted.
func (v *visit) looksUnmounted(found Contents) bool {
	if v.lister == nil {
		return false
	}
	if _, ok := v.to.(Marker); ok {
		return found.Identity == ""
	}
	return len(found.InDirectory) == 0 && dirIDOf(v.to).Filesystem == dirIDOf(v.Source).Filesystem
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
			v.planner.snapshots.InDirectory = nil // there is no such version
			v.plan = v.planner.plan()
			continue
		}
		v.saved.Transfers = append(v.saved.Transfers, sent)
		if sent.Failure == nil {
			continue
		}
		if failures++; failures > 1 || isAboutDestination(sent.Failure.Err) || v.lister == nil {
			return // what a destination that cannot be listed lacks is known only if it gets all in order
		}
		if len(rest) > 0 {
			rest = []Transfer{slices.MaxFunc(rest, func(a, b Transfer) int { return byAge(a.Snapshot, b.Snapshot) })}
		}
	}
}

// mark gives the destination its identity, if it can have one, and remembers that.
func (v *visit) mark(ctx context.Context) error {
	m, ok := v.to.(Marker)
	if !ok {
		return nil
	}
	id, err := m.Mark(ctx)
	if err != nil {
		return err
	}
	if err := v.Used.Add(ctx, v.to.String(), id); err != nil {
		v.Log.Warn(fmt.Sprintf("%s: the next run cannot check whether its disk is mounted, since the destination cannot be remembered: %v", v.to, err))
	}
	return nil
}

// record notes in the ledger the newest snapshot that the destination holds now, and the newest one that it lacks.
func (v *visit) record(ctx context.Context) {
	pairs := newPairing(v.snapshots.All, v.planner.backups.Listing)
	sent := func(s btrfs.Subvolume) bool {
		return slices.ContainsFunc(v.saved.Transfers, func(t TransferReport) bool { return t.Snapshot == s.Name && t.Failure == nil })
	}
	planned := make(map[string]bool)
	for _, t := range v.plan.Transfers {
		planned[t.Snapshot.Name] = true
	}
	common, lacking := "", ""
	for _, s := range v.ownSnapshots() {
		if len(pairs.backupsOf(s)) > 0 || sent(s) {
			common, lacking = s.Name, "" // no increment needs an older one
		} else if planned[s.Name] {
			lacking = s.Name
		}
	}
	if v.plan.Blocked {
		lacking = v.plan.InTheWay[len(v.plan.InTheWay)-1]
	}
	v.continueWith(v.planner.snapshots.line(v.source))
	v.updateLedger(context.WithoutCancel(ctx), func(l *lock.Ledger) {
		l.SetCommon(v.to.String(), common)
		if !v.NoTransfer {
			l.SetOutstanding(v.to.String(), lacking)
		}
	})
}

// conclude points the link of the destination to the newest backup, and prunes if nothing failed.
func (v *visit) conclude(ctx context.Context) {
	if v.planner.incomplete { // which was not known when it was planned
		v.plan = v.planner.plan()
	}
	if v.lister != nil {
		v.saved.Verdicts = v.plan.Verdicts
	}
	if v.saved.failed() {
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
	if ctx.Err() == nil {
		v.tellInUse(v.to, v.plan.Verdicts, v.planner.backups)
		v.saved.Deleted = v.delete(ctx, v.to, v.lister, v.plan.Delete, v.saved.fail)
	}
}
