package set

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"btrfs-backup/internal/engine"
)

// Survey tells what engine.Survey does of each member, as of one source: a set is there if all of its members are.
func Survey(ctx context.Context, s Set) *engine.Standing {
	members := make([]*engine.Standing, len(s.Members))
	var asking sync.WaitGroup
	for i, m := range s.Members {
		asking.Go(func() { members[i] = engine.Survey(ctx, m.Job) })
	}
	asking.Wait()
	all := &engine.Standing{Source: s.Source, Destinations: make([]engine.StandingAt, len(s.Destinations))}
	for i, d := range s.Destinations {
		all.Destinations[i].Destination, all.Destinations[i].Absent = d.Name, d.Absent
	}
	for i, m := range members {
		all.Err = errors.Join(all.Err, m.Err)
		if m.History && (!all.History || m.Snapshots.Newest.Before(all.Snapshots.Newest)) {
			all.History, all.Snapshots = true, m.Snapshots
		}
		for j, at := range m.Destinations {
			all.Destinations[j] = together(all.Destinations[j], at, i == 0)
		}
	}
	for i := range all.Destinations {
		at := &all.Destinations[i]
		at.Kept = s.Naming.SumUp(s.Now(), at.Complete)
	}
	return all
}

// together adds what there is of one more member.
func together(all, of engine.StandingAt, first bool) engine.StandingAt {
	all.Err = cmp.Or(all.Err, of.Err)
	all.OnRecord = all.OnRecord || of.OnRecord
	if first {
		all.Complete, all.Free = of.Complete, of.Free
		return all
	}
	all.Complete = slices.DeleteFunc(slices.Clone(all.Complete), func(name string) bool { return !slices.Contains(of.Complete, name) })
	all.Free = min(all.Free, of.Free)
	return all
}
