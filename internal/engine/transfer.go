package engine

import (
	"context"
	"errors"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/ladder"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
)

// save brings one version to the destination: as an increment where possible, falling back to other parents and at last to a
// complete copy.
func (v *visit) save(ctx context.Context, t Transfer) (sent TransferReport) {
	started := time.Now()
	sent.Snapshot, sent.Parent, sent.Why = t.Snapshot.Name, t.ParentName(), t.Why
	if k, ok := v.to.(Keeper); ok {
		sent.Locked = k.LockedUntil(t)
	}
	defer func() { sent.Duration = time.Since(started) }()
	if v.DryRun {
		v.rehearse(ctx, t, &sent)
		return sent
	}
	var bases []btrfs.Subvolume
	if t.Parent != nil {
		bases = v.planner.Bases(t.Snapshot)
	}
	err := ladder.Climb(ctx, v.Log, t, bases, func(t Transfer) error {
		t.Started = v.Now()
		result, err := v.to.Save(ctx, t)
		if sent.take(t, result); err == nil {
			sent.Unverified = v.lister == nil
			v.add(t, result)
			if !result.Unchanged {
				v.describe(ctx, t.Snapshot.Name)
			}
		}
		return err
	})
	if err != nil {
		sent.Failure = &Failure{err}
	}
	return sent
}

// take notes what came of an attempt.
func (s *TransferReport) take(t Transfer, r Result) {
	if s.Parent != t.ParentName() { // that which was planned was of no use
		s.Why = ""
	}
	s.Parent, s.Bytes, s.Wire, s.Kept = t.ParentName(), r.Bytes, r.Wire, r.Kept
	s.KeptFor = r.KeptFor
	s.Resumed += r.Resumed
	s.unchanged = r.Unchanged
	if s.Incomplete, s.Missing = nil, nil; r.Incomplete != nil {
		s.Incomplete = &Failure{r.Incomplete}
		var all interface{ Details() []string }
		if errors.As(r.Incomplete, &all) {
			s.Missing = all.Details()
		}
	}
}

// rehearse lets a destination that is there tell what the transfer would do.
func (v *visit) rehearse(ctx context.Context, t Transfer, sent *TransferReport) {
	r, ok := v.to.(Rehearser)
	if !ok || v.missing {
		return
	}
	result, err := r.Rehearse(ctx, t)
	sent.take(t, result)
	if err != nil {
		sent.Failure = &Failure{err}
	}
}

// add notes that the destination holds one more.
func (v *visit) add(t Transfer, r Result) {
	if r.Unchanged {
		return
	}
	v.planner.Incomplete = r.Incomplete != nil
	if v.history == nil {
		return
	}
	made := r.Backup
	v.planner.Recorded = append(v.planner.Recorded, Recorded{Name: t.Snapshot.Name, Complete: r.Incomplete == nil})
	if v.lister == nil {
		made = plan.Assumed(t.Snapshot)
	}
	v.planner.Chains.Add(made, v.planner.Backups.InDirectory)
	v.planner.Backups.InDirectory = append(v.planner.Backups.InDirectory, made)
	v.planner.Backups.All = append(v.planner.Backups.All, made)
}
