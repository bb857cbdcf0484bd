package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// run is a Job under way.
type run struct {
	Job
	history History // nil: the source keeps no versions of itself
	report  Report
	used    lock.Used // before this run
	visits  []*visit

	// Of a history:
	source    btrfs.Subvolume
	snapshots plan.Side
	continued map[btrfs.UUID]bool // the source, and those whose history it continues
	found     Snapshots           // as listed at first
	same      string              // the name of the snapshot since which it is known not to have changed
	release   func()              // the lock
	inSet     bool                // see Attempt
	version   string              // the name that the version of a source without history must have; "" for the next free one

	working   atomic.Int32 // visits that neither wait for a lock nor are over
	ledgerMu  sync.Mutex   // the destinations are served side by side
	written   string       // the ledger, as the file holds it
	unwritten error        // why the file does not hold what the ledger says; nil if it does
}

// Run does the job. What failed stands in the report; the error is about the source, without which there is nothing to do,
// or the end of the context.
func Run(ctx context.Context, job Job) (*Report, error) {
	r := newRun(job)
	defer func() {
		r.release()
		job.Close()
	}()
	if err := r.begin(ctx); err != nil {
		return &r.report, err
	}
	if isFutile(r.visits) { // nothing was made
		r.serveAll(ctx, r.visits)
		return &r.report, context.Cause(ctx)
	}
	r.reportOmitted(ctx)
	r.forget(ctx)
	if !r.surround(ctx, hook.Snapshot, r.takes(), func() { r.prepare(ctx) }) {
		return &r.report, r.endUnprepared(ctx)
	}
	return &r.report, r.saveAndConclude(ctx)
}

// Close closes the source and the destinations, so that their disks can be unmounted. Run does so.
func (j Job) Close() {
	parts := []fmt.Stringer{j.Source}
	for _, d := range j.Destinations {
		parts = append(parts, d)
	}
	for _, part := range parts {
		if c, ok := part.(io.Closer); ok {
			if err := c.Close(); err != nil {
				j.Log.Debug(fmt.Sprintf("closing %s: %v", part, err))
			}
		}
	}
}

func newRun(job Job) *run {
	r := &run{Job: job, report: Report{DryRun: job.DryRun, Source: job.Source.String()}, release: func() {}}
	r.history, _ = job.Source.(History)
	r.report.Copy, r.report.sends = r.history == nil, !r.NoTransfer && len(r.Destinations) > 0
	r.snapshots.Naming = job.Naming
	return r
}

// begin opens the source, looks at it and at the destinations, and makes nothing.
func (r *run) begin(ctx context.Context) error {
	if err := r.Source.Open(ctx); err != nil {
		return err
	}
	if err := r.openHistory(ctx); err != nil {
		return err
	}
	r.recall()
	if r.found.LedgerErr != nil {
		r.report.fail(r.found.LedgerErr)
	}
	if err := r.checkHistory(); err != nil {
		return err
	}
	r.readUsed()
	r.approachAll(ctx)
	if name, err := r.sameAs(ctx, r.found); err != nil {
		r.Log.Warn(fmt.Sprintf("%s: whether it changed is not known: %v", r.Source, err))
	} else if name != "" {
		r.Log.Info(fmt.Sprintf("%s: nothing changed since %s: no snapshot is taken", r.Source, name))
		r.NoSnapshot = true
	}
	return nil
}

// sameAs gives the name of the newest snapshot if the source did not change since and that matters, else "".
func (r *run) sameAs(ctx context.Context, found Snapshots) (name string, err error) {
	source, ok := r.Source.(Watched)
	if !r.OnlyChanged || r.NoSnapshot || !ok {
		return "", nil
	}
	var newest btrfs.Subvolume
	for _, s := range found.InDirectory {
		if r.Naming.Ours(s.Name) && s.ReadOnly && s.AlteredIn == 0 && s.ParentUUID == found.Of.UUID && s.CreatedIn > newest.CreatedIn {
			newest = s
		}
	}
	if newest.Name == "" {
		return "", nil
	}
	if changed, err := source.Changed(ctx, newest); changed || err != nil {
		return "", err
	}
	return newest.Name, nil
}

// save brings what they lack to the destinations.
func (r *run) save(ctx context.Context) {
	r.tellAltered()
	if !r.lacksVersion() {
		r.serveInTurn(ctx)
	}
}

// conclude ends the work at the source.
func (r *run) conclude(ctx context.Context) error {
	if ctx.Err() != nil {
		r.settleLedger(context.WithoutCancel(ctx))
		return context.Cause(ctx)
	}
	r.concludeBy(ctx, r.pruneSource)
	return nil
}

// openHistory locks and lists the snapshots. Without a readable ledger the run goes on, but prunes none of them.
func (r *run) openHistory(ctx context.Context) (err error) {
	if r.history == nil {
		return nil
	}
	release, err := r.Lock(ctx, r.Source, r.history, !r.NoWait)
	if err != nil {
		return err
	}
	r.release = release
	found, err := r.history.List(ctx, r.Naming.Ours)
	r.listed(found)
	return err
}

// listed takes in what the snapshot folder holds.
func (r *run) listed(found Snapshots) {
	r.found, r.source, r.snapshots.Listing, r.snapshots.Ledger, r.snapshots.InUse = found, found.Of, found.Listing, found.Ledger, found.InUse
	r.snapshots.Relayed = found.Relayed
	if found.Ledger != nil {
		r.written = string(found.Ledger.Marshal())
	}
}

// checkHistory refuses a run that has no snapshot to send and can take none.
func (r *run) checkHistory() error {
	some := len(r.ownSnapshots()) > 0
	switch {
	case some && r.found.ReadOnly && r.NoSnapshot:
		r.Log.Warn(fmt.Sprintf("%s: its filesystem is read-only: the ledger is not written there, and no snapshot is deleted", r.Source))
	case some, r.history == nil:
		return nil
	case r.found.NoTake != nil && (!r.NoSnapshot || r.source.ReadOnly):
		return r.found.NoTake
	case r.NoSnapshot && r.report.sends:
		return hint.New(fmt.Errorf("source %s: it has no snapshot to send", r.Source), "leave out --no-snapshot to take one")
	}
	return nil
}

// lacksVersion tells that there is nothing to be sent, since no snapshot could be taken.
func (r *run) lacksVersion() bool {
	return r.history != nil && r.report.sends && len(r.ownSnapshots()) == 0
}

// Lock takes the lock of a folder, which a dry run does not need.
func (s Settings) Lock(ctx context.Context, name fmt.Stringer, l Locker, wait bool) (release func(), err error) {
	if s.DryRun {
		return func() {}, nil
	}
	waiting := func(held *lock.HeldError) { s.Log.Info(fmt.Sprintf("%s: waiting for %s", name, held.Holder())) }
	if !wait {
		waiting = nil
	}
	unlock, err := l.Lock(ctx, waiting)
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

// reportOmitted tells what the backups of the source are not, and the paths in it that no version of it holds: again only when
// that changes.
func (r *run) reportOmitted(ctx context.Context) {
	omitted, err := r.Source.Omitted(ctx)
	if err != nil {
		r.Log.Warn(fmt.Sprintf("%s: looking for paths that its backups leave out: %v", r.Source, err))
	}
	var lines []string
	if part, ok := r.Source.(Part); ok && r.Automatic {
		r.report.Within = part.Within(ctx)
		if w := r.report.Within; w != "" {
			lines = append(lines, fmt.Sprintf("%s is a directory of the subvolume %s: copied by rsync, not from a snapshot "+
				"(that needs %s as SOURCE)", r.Source, w, w))
		}
	}
	omitted = slices.DeleteFunc(omitted, func(path string) bool { return slices.Contains(r.Covered, path) })
	r.report.Omitted = omitted
	if len(omitted) > 0 {
		lines = append(lines, fmt.Sprintf("%s: not in its backups, each needs a backup of its own: %s", r.Source, Few(omitted)))
		r.Log.Debug(fmt.Sprintf("%s: not in its backups: %q", r.Source, omitted))
	}
	if r.DryRun || r.State.IsNews(ctx, r.Source.String(), append(slices.Clone(lines), omitted...)) {
		for _, line := range lines {
			r.Log.Warn(line)
		}
	}
}

// Few names at most three of many.
func Few(paths []string) string {
	const most = 3
	text := strings.Trim(fmt.Sprintf("%q", paths[:min(most, len(paths))]), "[]")
	if more := len(paths) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// prepare takes the snapshot of a history, in the next second if the name is taken.
func (r *run) prepare(ctx context.Context) {
	if r.history == nil || r.NoSnapshot {
		r.Log.Debug("no snapshot is taken")
		return
	}
	var taken btrfs.Subvolume
	err := r.found.NoTake
	if err == nil {
		_, err = r.freeName(ctx, plan.NamesOf(r.snapshots.InDirectory), func(name string) (err error) {
			taken, err = r.take(ctx, name)
			return err
		})
	}
	if err == nil {
		err = r.noteTaken(ctx, taken)
	}
	if err != nil {
		r.report.fail(err)
	}
}

// noteTaken adds a new snapshot to those that there are.
func (r *run) noteTaken(ctx context.Context, taken btrfs.Subvolume) error {
	r.report.Snapshot = taken.Name
	relisted := r.found.Missing && !r.DryRun
	if relisted {
		if err := r.openHistory(ctx); err != nil { // now that it has a folder
			return err
		}
	}
	if !r.source.ReceivedUUID.IsZero() && !r.source.ReadOnly {
		r.Log.Info(fmt.Sprintf("%s: is a received backup that was made writable; its received UUID is cleared, or all its snapshots would "+
			"count as copies of that backup", r.Source))
	}
	switch there := slices.ContainsFunc(r.snapshots.InDirectory, func(s btrfs.Subvolume) bool { return s.UUID == taken.UUID }); {
	case there:
	case relisted: // nobody had a lock yet in a folder that was missing
		r.Log.Info(fmt.Sprintf("%s: another run has deleted snapshot %s already", r.Source, taken.Name))
	default:
		r.snapshots.InDirectory = append(r.snapshots.InDirectory, taken)
		r.snapshots.All = append(r.snapshots.All, taken)
	}
	return nil
}

// freeName tries names until one is not fs.ErrExist: that of each second, from now on, or of each number.
func (r *run) freeName(ctx context.Context, taken []string, try func(name string) error) (string, error) {
	for {
		now := r.Now()
		name := r.Naming.Next(now, taken)
		if r.Naming.Numbered() && !r.Naming.Ours(name) {
			return "", hint.New(fmt.Errorf("%s: no number is left for a name: %s would be next", r.Source, name), "rename what has the highest one")
		}
		err := try(name)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
		if r.Naming.Numbered() {
			taken = append(taken, name)
			continue
		}
		if err := r.AwaitNext(ctx, name, now); err != nil {
			return "", err
		}
	}
}

// SecondAwaited is reached when a second was waited for, by which the clock of a test goes on.
const SecondAwaited = "second awaited"

// AwaitNext waits until the name that now gives is another one.
func (s Settings) AwaitNext(ctx context.Context, name string, now time.Time) error {
	s.Log.Info(name + " exists already, waiting for the next second")
	err := pause(ctx, now.Truncate(time.Second).Add(time.Second).Sub(now))
	failpoint.Reach(SecondAwaited)
	return err
}

func (r *run) take(ctx context.Context, name string) (btrfs.Subvolume, error) {
	if r.DryRun {
		if slices.Contains(plan.NamesOf(r.snapshots.InDirectory), name) {
			return btrfs.Subvolume{}, fs.ErrExist
		}
		return plan.Pending(name, r.source.UUID), nil
	}
	r.Log.Debug("taking snapshot " + name)
	s, err := r.history.Take(ctx, name)
	if err == nil && !r.inSet { // which tells of all at once
		r.Log.Info("took snapshot " + name)
	}
	return s, err
}

// serveAll serves destinations side by side.
func (r *run) serveAll(ctx context.Context, visits []*visit) {
	r.working.Store(int32(len(visits)))
	var serving sync.WaitGroup
	for _, v := range visits {
		serving.Go(func() {
			defer v.working.Add(-1)
			v.serve(ctx)
		})
	}
	serving.Wait()
}

// concludeBy applies the retention to the snapshots, which may make the room that all the rest needs, and points the link to the
// newest one.
func (r *run) concludeBy(ctx context.Context, prune func(context.Context)) {
	if r.history == nil {
		return
	}
	if !r.found.ReadOnly {
		prune(ctx)
		r.settleLedger(ctx)
		r.linkLatest(ctx)
	}
	r.remember(ctx)
}

// ownSnapshots gives the snapshots of the source, oldest first.
func (r *run) ownSnapshots() []btrfs.Subvolume {
	if r.history == nil {
		return nil
	}
	return r.snapshots.SeriesOf(r.source)
}

// linkLatest points the link to the newest snapshot, once every destination holds it.
func (r *run) linkLatest(ctx context.Context) {
	ours := r.ownSnapshots()
	failed := len(r.report.AllFailures()) > 0
	saved := r.report.madeSome()
	if failed || !saved || len(ours) == 0 || r.relays() {
		return
	}
	newest := ours[len(ours)-1].Name
	if !r.DryRun {
		if err := r.history.Link(ctx, r.Naming.Latest(), newest); err != nil {
			r.report.fail(err)
			return
		}
		r.Log.Debug("latest snapshot is now " + newest)
	}
	r.report.Latest = newest
}

// relays tells that the snapshots are backups of something else, which are sent on: they are pruned by whoever makes them.
func (r *run) relays() bool { return len(r.snapshots.Relayed) > 0 }

// pruneSource applies the retention to the snapshots.
func (r *run) pruneSource(ctx context.Context) {
	if r.relays() {
		r.dropMissing(ctx)
		return
	}
	c, err := r.considerSource()
	if err != nil {
		r.report.fail(err)
	}
	if c == nil {
		return
	}
	r.deleteSnapshots(ctx, append(c.Foreign, plan.DecideAmong(r.KeepSnapshots, r.Now(), c.Candidates, nil)...))
}

// considerSource gives what the retention applies to: nothing if this run's snapshot is missing or what the destinations need is
// not known.
func (r *run) considerSource() (*plan.Considered, error) {
	isUnknown := r.snapshots.Ledger == nil || !r.NoSnapshot && r.report.Snapshot == ""
	if isUnknown || slices.ContainsFunc(r.visits, (*visit).mayNeedAny) {
		level := slog.LevelInfo // of a destination that is away on purpose
		if isUnknown || slices.ContainsFunc(r.visits, func(v *visit) bool { return v.mayNeedAny() && !v.isAbsent() }) {
			level = slog.LevelWarn
		}
		if r.KeepSnapshots != (retention.Policy{}) {
			r.Log.Log(context.Background(), level, fmt.Sprintf("%s: no snapshots are deleted, since a destination may still need them", r.Source))
		}
		return nil, nil
	}
	newest := ""
	if ours := r.ownSnapshots(); len(ours) > 0 {
		newest = ours[len(ours)-1].Name
	}
	var err error
	if r.snapshots.File, err = r.ledgerFile(newest); err != nil {
		return nil, err
	}
	c := plan.Consider(r.source, r.snapshots, newest)
	return &c, nil
}

func (r *run) deleteSnapshots(ctx context.Context, verdicts []retention.Verdict) {
	r.report.Verdicts = verdicts
	r.tellInUse(r.Source, r.report.Verdicts, r.snapshots)
	r.report.Deleted = r.delete(ctx, r.Source, r.history, plan.Deletions(r.report.Verdicts), r.report.fail)
	r.dropMissing(ctx)
}

// dropMissing lets the ledger forget what is gone.
func (r *run) dropMissing(ctx context.Context) {
	r.updateLedger(ctx, func(l *lock.Ledger) {
		l.DropMissing(func(name string) bool {
			return !slices.Contains(r.report.Deleted, name) && slices.Contains(plan.NamesOf(r.snapshots.InDirectory), name)
		})
	})
}

// tellInUse names what the policy does not keep, but what it is used for.
func (s Settings) tellInUse(at fmt.Stringer, verdicts []retention.Verdict, in plan.Side) {
	for _, v := range verdicts {
		if why, ok := in.InUse[v.Name]; ok && slices.Equal(v.Reasons, []string{why}) {
			s.Log.Info(fmt.Sprintf("%s: %s is kept: %s", at, v.Name, why))
		}
	}
}

// delete gives back the names of those that it deleted, or in a dry run would.
func (s Settings) delete(ctx context.Context, at fmt.Stringer, d Deleter, names []string, fail func(error)) []string {
	if len(names) == 0 || s.DryRun {
		return names
	}
	s.Log.Info(fmt.Sprintf("%s: deleting %d: %s", at, len(names), progress.Few(names)))
	deleted, err := d.Delete(ctx, names)
	if err != nil {
		fail(err)
	}
	return deleted
}
