// Package ladder saves a version upon one base after another, and at last as a complete copy, as far as the reason why one attempt
// failed lets another one succeed.
package ladder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"syscall"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// mostBases is how many are tried.
const mostBases = 2

// Climb calls save until an attempt succeeds, or no further one can. The bases are those that the version can build upon, the best
// first; a transfer without a parent is a complete copy, whatever they are.
func Climb(ctx context.Context, log *slog.Logger, t plan.Transfer, bases []btrfs.Subvolume, save func(plan.Transfer) error) error {
	rungs := []*btrfs.Subvolume{nil}
	if t.Parent != nil {
		for i := range min(len(bases), mostBases) {
			rungs = slices.Insert(rungs, i, &bases[i])
		}
	}
	for i, parent := range rungs {
		t.Parent = parent
		err := save(t)
		if err == nil || i == len(rungs)-1 || ctx.Err() != nil || !mayDependOnParent(err) {
			return err
		}
		t.Parent = rungs[i+1]
		log.Warn(fmt.Sprintf("%v; trying %s", err, t.How()))
	}
	return nil
}

// IsAboutDestination tells that no snapshot can be sent to the destination as it is.
func IsAboutDestination(err error) bool {
	if errors.As(err, new(*receive.SourceError)) {
		return false
	}
	return IsAboutSpace(err) || isOneOf(err, syscall.EROFS, syscall.EPERM, syscall.EIO)
}

// IsAboutSpace tells that there is no room.
func IsAboutSpace(err error) bool { return isOneOf(err, syscall.ENOSPC, syscall.EDQUOT) }

// isAboutFile tells that a file of the snapshot cannot be stored there, or sent, whatever the parent is.
func isAboutFile(err error) bool {
	return isOneOf(err, syscall.EOPNOTSUPP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.E2BIG, syscall.ERANGE, syscall.EMLINK)
}

func isOneOf(err error, known ...syscall.Errno) bool {
	return slices.ContainsFunc(known, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}

// mayDependOnParent tells whether another parent is worth trying: the wrong one was taken, the kernel made no stream of it, it
// cannot be applied, or a program ended by itself, and not for lack of something that every stream needs.
func mayDependOnParent(err error) bool {
	if errors.Is(err, copies.ErrWrongParent) {
		return true
	}
	var exit *transport.ExitError
	ended := errors.As(err, &exit) && !exit.Killed() || errors.As(err, new(*btrfs.SendError)) || errors.Is(err, receive.ErrNoParent) ||
		errors.As(err, new(*receive.Error)) && !errors.As(err, new(*receive.SourceError))
	return ended && !IsAboutDestination(err) && !isAboutFile(err) && !errors.Is(err, fs.ErrExist)
}
