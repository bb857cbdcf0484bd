package job

import (
	"context"
	"time"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/set"
	"btrfs-backup/lock"
)

// Survey tells what there is of the source, as engine.Survey does. Where the engine depends on what the source is, and that cannot
// be seen, it is the one that the record of sources knows.
func (s *Spec) Survey(ctx context.Context, m *Machines, e Environment) (*engine.Standing, error) {
	if s.HasMembers() {
		made, err := s.BuildSet(ctx, m, e)
		if err != nil {
			return nil, err
		}
		return set.Survey(ctx, made), nil
	}
	spec := *s
	if _, known := s.engine(); !known {
		spec.Engine = builder{s, m, e}.see(ctx)
	}
	job, err := spec.Build(ctx, m, e)
	if err != nil {
		return nil, err
	}
	return engine.Survey(ctx, job), nil
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
