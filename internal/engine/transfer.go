package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine/copies"
	"btrfs-backup/transport"
)

// save brings one version to the destination: as an increment where possible, falling back to other parents and at last to a
// complete copy.
func (v *visit) save(ctx context.Context, t Transfer) (sent TransferReport) {
	started := time.Now()
	sent.Snapshot, sent.Parent = t.Snapshot.Name, t.ParentName()
	defer func() { sent.Duration = time.Since(started) }()
	if v.DryRun {
		v.rehearse(ctx, t, &sent)
		return sent
	}
	ladder := v.ladder(t)
	for i, parent := range ladder {
		t.Parent, t.Started = parent, v.Now()
		result, err := v.to.Save(ctx, t)
		sent.take(t, result)
		if err == nil {
			sent.Unverified = v.lister == nil
			v.add(t, result)
			return sent
		}
		if i == len(ladder)-1 || ctx.Err() != nil || !mayDependOnParent(err) {
			sent.Failure = &Failure{err}
			return sent
		}
		t.Parent = ladder[i+1]
		v.Log.Warn(fmt.Sprintf("%v; trying %s", err, t.How()))
	}
	return sent
}

// take notes what came of an attempt.
func (s *TransferReport) take(t Transfer, r Result) {
	s.Parent, s.Bytes, s.Wire, s.Kept = t.ParentName(), r.Bytes, r.Wire, r.Kept
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
	if v.history == nil {
		v.planner.Incomplete = r.Incomplete != nil
		return
	}
	made := r.Backup
	if v.lister == nil {
		made = assumedBackup(t.Snapshot)
	}
	v.planner.Backups.InDirectory = append(v.planner.Backups.InDirectory, made)
	v.planner.Backups.All = append(v.planner.Backups.All, made)
}

// ladder gives the parents to try in turn; the last is none, for a complete copy.
func (v *visit) ladder(t Transfer) []*btrfs.Subvolume {
	const parents = 2
	rungs := []*btrfs.Subvolume{nil}
	if t.Parent == nil {
		return rungs
	}
	best := v.planner.Bases(t.Snapshot)
	for i := range min(len(best), parents) {
		rungs = slices.Insert(rungs, i, &best[i])
	}
	return rungs
}

// isAboutDestination tells that no snapshot can be sent to the destination as it is.
func isAboutDestination(err error) bool {
	return isAboutSpace(err) || isOneOf(err, syscall.EROFS, syscall.EPERM, syscall.EIO)
}

func isAboutSpace(err error) bool { return isOneOf(err, syscall.ENOSPC, syscall.EDQUOT) }

// isAboutFile tells that a file of the snapshot cannot be stored there, or sent, whatever the parent is.
func isAboutFile(err error) bool {
	return isOneOf(err, syscall.EOPNOTSUPP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.E2BIG, syscall.ERANGE, syscall.EMLINK)
}

func isOneOf(err error, known ...syscall.Errno) bool {
	return slices.ContainsFunc(known, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}

// mayDependOnParent tells whether another parent is worth trying: the wrong one was taken, or a program ended by itself, and not
// for lack of something that every stream needs.
func mayDependOnParent(err error) bool {
	if errors.Is(err, copies.ErrWrongParent) {
		return true
	}
	var exit *transport.ExitError
	return errors.As(err, &exit) && !exit.Killed() && !isAboutDestination(err) && !isAboutFile(err) && !errors.Is(err, fs.ErrExist)
}
