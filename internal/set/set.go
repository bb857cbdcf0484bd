// Package set backs up several sources as one.
//
// Each member is a job of its own, with a folder of its own at every destination, so that what holds for one source holds for each
// of them. Together they take their snapshots one after another, with nothing in between, and under one name: all of them or none.
// A set is complete at a destination when every member has its backup of that name there; then it gets a directory of links to
// them (host.Sets), by one rename; in a store, their manifests tell it. The retention decides on all members' snapshots, and on all
// their backups at a destination, as on one: what goes by its verdict loses its directory of links before any backup. The newest
// complete set always stays.
//
// A destination that is refused to one member is refused to all, so that no part of a set ends where a disk should be mounted.
// Nothing is deleted at a destination where one of the members failed, and none of the members' snapshots if one of them must not
// be pruned.
package set

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Set is what is backed up as one.
type Set struct {
	Source       string // its name in the report
	Members      []Member
	Destinations []Destination
	Naming       engine.Naming // that of all members
	// Volatile tells that members were found by looking, so that one may be gone again. It is left out then.
	Volatile bool
	engine.Settings
}

// A Member is one of the sources. Its destinations are those of the set, in the same order.
type Member struct {
	Name string // of its folder at each destination
	engine.Job
	Inside bool // a source that keeps no versions is copied right after the snapshots, and not only when others are sent
}

// A Destination is where the members have their folders.
type Destination struct {
	Name   string
	Absent string  // why it is not served in this run; "" if it is
	Folder *Folder // in which complete sets are marked by links; nil: they are not
}

// run is a Set under way.
type run struct {
	Set
	name     string // of the version
	attempts []*engine.Attempt
	locking  []int // the members in the order in which their sources are locked, so that no two runs wait for each other
	report   engine.Report
	unserved bool // a member could not be served at all
}

// Run does what engine.Run does, for all members.
func Run(ctx context.Context, s Set) (*engine.Report, error) {
	r := &run{Set: s, report: engine.Report{DryRun: s.DryRun, Source: s.Source}}
	defer r.close()
	if err := r.begin(ctx); err != nil {
		return &r.report, err
	}
	if r.refuse(ctx) {
		return &r.report, context.Cause(ctx)
	}
	if !r.prepare(ctx) {
		return &r.report, context.Cause(ctx)
	}
	transfer := func() {
		r.saveThose(ctx, false)
		r.concludeDestinations(ctx)
		r.concludeSources(ctx)
	}
	if !r.Surround(ctx, hook.Transfer, &r.report, transfer) {
		r.leaveOut(ctx)
	}
	return &r.report, context.Cause(ctx)
}

// prepare takes the snapshots, and makes the copies that belong to them. It gives false if there is none.
func (r *run) prepare(ctx context.Context) bool {
	var failure error
	prepare := func() {
		if failure = r.take(ctx); failure == nil {
			r.join()
			r.saveThose(ctx, true)
		} else if ctx.Err() == nil {
			r.fail(failure)
		}
	}
	if !r.takes() {
		prepare()
	} else if !r.Surround(ctx, hook.Snapshot, &r.report, prepare) {
		for _, a := range r.attempts {
			a.EndUnprepared(ctx, r.report.Skipped)
		}
		return false
	}
	return failure == nil
}

// takes tells that there is something to be done within the phase of the snapshots.
func (r *run) takes() bool {
	return slices.ContainsFunc(r.Members, func(m Member) bool { return r.isInside(m) || keeps(m) && !m.NoSnapshot })
}

// keeps tells that a member keeps versions of itself.
func keeps(m Member) bool {
	_, keeps := m.Source.(engine.History)
	return keeps
}

// isInside tells that a member is copied in the phase of the snapshots. Where no member takes any, copies are what they are elsewhere.
func (r *run) isInside(m Member) bool {
	return !keeps(m) && (m.Inside || !slices.ContainsFunc(r.Members, keeps))
}

// saveThose saves the members that are copied in the phase of the snapshots, or the others.
func (r *run) saveThose(ctx context.Context, inside bool) {
	for i, m := range r.Members {
		if r.isInside(m) == inside {
			r.save(ctx, i)
		}
	}
}

// leaveOut ends the work at the sources when nothing may be sent now.
func (r *run) leaveOut(ctx context.Context) {
	r.unserved = true
	for i, a := range r.attempts {
		if r.isInside(r.Members[i]) {
			continue
		}
		if err := a.Resume(context.WithoutCancel(ctx)); err != nil {
			r.fail(err)
			continue
		}
		a.LeaveOut(ctx, r.report.Skipped)
		a.Release()
	}
	r.concludeSources(ctx)
}

func (r *run) fail(err error) {
	r.report.Failures = append(r.report.Failures, engine.Failure{Err: err})
}

// begin opens all sources and looks at all destinations.
func (r *run) begin(ctx context.Context) error {
	r.attempts, r.report.Members = make([]*engine.Attempt, len(r.Members)), make([]*engine.Report, len(r.Members))
	for i := range r.Members {
		r.report.Members[i] = &engine.Report{DryRun: r.DryRun, Source: r.Members[i].Source.String()}
	}
	r.order()
	for _, i := range r.locking {
		a, err := engine.Begin(ctx, r.Members[i].Job)
		r.attempts[i], r.report.Members[i] = a, a.Report()
		if err != nil && !r.leave(i, err) {
			return err
		}
	}
	r.compact()
	r.refuseTogether()
	return nil
}

// refuseTogether has a destination serve no member if it is refused to one of them: the disk of all may be away.
func (r *run) refuseTogether() {
	for d := range r.Destinations {
		for i, a := range r.attempts {
			to := r.Members[i].Destinations[d]
			cause := a.Refused(to)
			if cause == nil {
				continue
			}
			for j, other := range r.attempts {
				peer := r.Members[j].Destinations[d]
				other.RefuseAt(peer, hint.New(fmt.Errorf("destination %s: is left alone, since that of another member of the set is refused: %s", peer, to), hint.Of(cause)))
			}
			break
		}
	}
}

// leave leaves a member out that is gone. It gives false if that is not what the error says.
func (r *run) leave(member int, err error) bool {
	if !r.Volatile || !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	r.Log.Warn(fmt.Sprintf("%s: is gone since it was found: %v", r.Members[member].Source, err))
	r.attempts[member].Release()
	r.Members[member].Close()
	r.attempts[member] = nil
	return true
}

// compact forgets the members that were left out.
func (r *run) compact() {
	var members []Member
	var attempts []*engine.Attempt
	r.report.Members, r.locking = nil, nil
	for i, a := range r.attempts {
		if a != nil {
			members, attempts, r.report.Members = append(members, r.Members[i]), append(attempts, a), append(r.report.Members, a.Report())
		}
	}
	r.Members, r.attempts = members, attempts
	r.order()
}

// order sets the order of locking.
func (r *run) order() {
	r.locking = nil
	for i := range r.Members {
		r.locking = append(r.locking, i)
	}
	slices.SortFunc(r.locking, func(a, b int) int {
		return strings.Compare(r.Members[a].Source.String(), r.Members[b].Source.String())
	})
}

func (r *run) close() {
	for i, a := range r.attempts {
		if a != nil {
			a.Release()
		}
		r.Members[i].Close()
	}
	for _, d := range r.Destinations {
		if d.Folder != nil {
			if err := d.Folder.Close(); err != nil {
				r.Log.Debug(fmt.Sprintf("closing %s: %v", d.Folder, err))
			}
		}
	}
}

// refuse tells whether some member would have no backup anywhere.
func (r *run) refuse(ctx context.Context) (refused bool) {
	for _, a := range r.attempts {
		refused = a.Refuse(ctx) || refused
	}
	return refused
}

// take takes all snapshots under one name, in the next second if that is taken anywhere.
func (r *run) take(ctx context.Context) error {
	for _, a := range r.attempts {
		a.Look(ctx)
	}
	r.refuseTogether()
	if r.Members[0].NoSnapshot {
		r.name = r.newest()
		return r.takeAs(ctx, r.name, nil)
	}
	marked := r.marked(ctx)
	for {
		now := r.Now()
		r.name = r.Naming.Name(now)
		err := r.takeAs(ctx, r.name, marked)
		if !errors.Is(err, fs.ErrExist) {
			r.report.Snapshot = r.name
			if err != nil {
				r.report.Snapshot = ""
			}
			return err
		}
		if err := r.AwaitNext(ctx, r.name, now); err != nil {
			return err
		}
	}
}

// newest gives the name of the newest snapshot that all members have which take any; that is the name of new copies of the others.
func (r *run) newest() string {
	var common []string
	first := true
	for i, a := range r.attempts {
		if !keeps(r.Members[i]) {
			continue
		}
		names := a.Snapshots()
		if first {
			common, first = names, false
		}
		common = slices.DeleteFunc(common, func(name string) bool { return !slices.Contains(names, name) })
	}
	if len(common) == 0 {
		return r.Naming.Name(r.Now())
	}
	return common[len(common)-1]
}

// marked gives the names that no set can have at the destinations.
func (r *run) marked(ctx context.Context) (names []string) {
	for _, d := range r.Destinations {
		if d.Folder != nil {
			names = append(names, d.Folder.names(ctx)...)
		}
	}
	return names
}

// takeAs takes the snapshots, or none.
func (r *run) takeAs(ctx context.Context, name string, taken []string) error {
	isTaken := func(a *engine.Attempt) bool { return a.IsTaken(name) }
	if !r.Members[0].NoSnapshot && (slices.Contains(taken, name) || slices.ContainsFunc(r.attempts, isTaken)) {
		return fs.ErrExist
	}
	for i, a := range r.attempts {
		err := context.Cause(ctx)
		if err == nil {
			err = a.Take(ctx, name)
		}
		if err != nil && !r.leave(i, err) {
			return r.discard(context.WithoutCancel(ctx), err)
		}
	}
	r.compact()
	var sources []string
	for i, a := range r.attempts {
		if keeps(r.Members[i]) && !r.Members[i].NoSnapshot {
			sources = append(sources, a.Report().Source)
		}
		a.Settle(ctx)
		a.Release()
	}
	if len(sources) > 0 && !r.DryRun {
		r.Log.Info(fmt.Sprintf("took snapshot %s of %s", name, engine.Few(sources)))
	}
	return nil
}

// discard deletes the snapshots that were taken.
func (r *run) discard(ctx context.Context, cause error) error {
	r.compact()
	for _, a := range r.attempts {
		if err := a.Discard(ctx); err != nil {
			cause = fmt.Errorf("%w; and the snapshot of %s, taken for the same set, stays: %w", cause, a.Report().Source, err)
		}
	}
	return cause
}

// join lets the retention decide on what each destination is to get as on one.
func (r *run) join() {
	for d := range r.Destinations {
		candidates := make([][]retention.Snapshot, len(r.attempts))
		for i, a := range r.attempts {
			candidates[i] = a.Candidates(r.Members[i].Destinations[d])
		}
		for i, a := range r.attempts {
			a.Join(r.Members[i].Destinations[d], others(candidates, i))
		}
	}
}

// others gives the candidates of all members but one.
func others(candidates [][]retention.Snapshot, but int) (peers []retention.Snapshot) {
	for i, c := range candidates {
		if i != but {
			peers = append(peers, c...)
		}
	}
	return peers
}

// save brings one member to the destinations.
func (r *run) save(ctx context.Context, member int) {
	a := r.attempts[member]
	if err := a.Resume(ctx); err != nil {
		r.unserved = true
		r.fail(err)
		return
	}
	a.Save(ctx)
	a.Release()
}

// concludeSources applies the retention to the snapshots of all members as to one.
func (r *run) concludeSources(ctx context.Context) {
	prune := !r.unserved
	candidates := make([][]retention.Snapshot, len(r.attempts))
	resumed := make([]bool, len(r.attempts))
	for _, i := range r.locking {
		a := r.attempts[i]
		if err := a.Resume(context.WithoutCancel(ctx)); err != nil {
			r.fail(err)
			prune = false
			continue
		}
		resumed[i] = true
		if ctx.Err() == nil {
			var ok bool
			candidates[i], ok = a.Consider()
			prune = prune && ok
		}
	}
	for i, a := range r.attempts {
		if resumed[i] {
			a.Conclude(ctx, prune, others(candidates, i))
		}
	}
}
