package job

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// Survey tells what there is of the source, as engine.Survey does. Where the engine depends on what the source is, and that cannot
// be seen, it is the one that the record of sources knows.
//
// Nothing is logged: a run tells the same again.
//
// Of several sources that are backed up as one, those backups count of which every source has one.
func (s *Spec) Survey(ctx context.Context, m *Machines, e Environment) (*engine.Standing, error) {
	spec := *s
	spec.DryRun = true
	e.Log = slog.New(slog.DiscardHandler)
	if s.HasMembers() {
		return builder{&spec, m, e}.surveySet(ctx)
	}
	if _, known := s.engine(); !known {
		spec.Engine = builder{s, m, e}.see(ctx)
	}
	job, _, err := spec.buildAs(ctx, m, e, false)
	if err != nil {
		return nil, err
	}
	return engine.Survey(ctx, job), nil
}

func (b builder) surveySet(ctx context.Context) (*engine.Standing, error) {
	members, _, err := b.members(ctx)
	if err != nil {
		if members = b.remembered(); len(members) == 0 {
			return nil, err
		}
	}
	all, errs := make([]*engine.Standing, len(members)), make([]error, len(members))
	var asking sync.WaitGroup
	for i, member := range members {
		one := b.member(member)
		if e, known := one.engine(); known {
			one.only(e)
		}
		asking.Go(func() { all[i], errs[i] = one.Survey(ctx, b.Machines, b.Environment) })
	}
	asking.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &engine.Standing{Source: b.SourceName()}
	for _, one := range all {
		s.Err = cmp.Or(s.Err, one.Err)
		if one.History && (!s.History || one.Snapshots.Newest.Before(s.Snapshots.Newest)) {
			s.History, s.Snapshots = true, one.Snapshots
		}
	}
	for i, p := range b.Destinations {
		at := common(all, i, b.naming(), b.Now())
		at.Destination = engine.PlaceName(p.String())
		s.Destinations = append(s.Destinations, at)
	}
	return s, nil
}

// remembered gives the subvolumes that a recursive job had the last time, for a source that cannot be looked at.
func (b builder) remembered() (members []Member) {
	names, _ := b.settings().State.MembersOf(b.SourceName()) // none if it cannot be read
	for _, at := range names {
		members = append(members, Member{at, inside(b.Source, at)})
	}
	return members
}

// common sums up what there is of all members at one destination. A subvolume that is newer than the newest set needs none.
func common(members []*engine.Standing, i int, naming engine.Naming, now time.Time) engine.StandingAt {
	at := members[0].Destinations[i]
	var some []engine.StandingAt
	for _, m := range members {
		one := m.Destinations[i]
		at.Err, at.Absent, at.Broken = cmp.Or(at.Err, one.Err), cmp.Or(at.Absent, one.Absent), cmp.Or(at.Broken, one.Broken)
		if one.Newest.Before(at.Newest) && at.Err != nil {
			at.Newest = one.Newest
		}
		if len(one.Complete) > 0 {
			some = append(some, one)
		}
	}
	if at.Err != nil {
		return engine.StandingAt{Kept: plan.Kept{Newest: at.Newest}, Absent: at.Absent, Err: at.Err}
	}
	at.Complete = nil
	if len(some) > 0 {
		at.Complete = slices.DeleteFunc(slices.Clone(some[0].Complete), func(name string) bool {
			return slices.ContainsFunc(some, func(one engine.StandingAt) bool { return !slices.Contains(one.Complete, name) })
		})
	}
	at.Kept = naming.SumUp(now, at.Complete)
	for _, m := range members {
		if len(m.Destinations[i].Complete) == 0 && !m.Created.After(at.Newest) {
			at.Complete, at.Kept = nil, plan.Kept{}
		}
	}
	return at
}

// see gives the engine for what the source is. Half of the time is left to the destinations.
func (b builder) see(ctx context.Context) Engine {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	h, path := b.At(b.Source)
	isVolume, err := engine.Ask(ctx, b.Source, func(ctx context.Context) (bool, error) {
		dir, err := h.Open(ctx, path)
		if err != nil {
			return false, err
		}
		defer dir.Close()
		return dir.Status().Btrfs && dir.Status().IsRoot, nil
	})
	known, unread := lock.State{Dir: b.State}.Source(engine.PlaceName(h.String() + path))
	if err == nil && isVolume || len(known) > 0 || unread != nil {
		return Btrfs
	}
	return Rsync
}
