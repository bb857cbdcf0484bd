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
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/progress"
	"btrfs-backup/transport"
)

// send brings one snapshot to the destination: as an increment where possible, falling back to other parents and at last
// to a complete copy.
func (v *visit) send(ctx context.Context, t Transfer) (sent Sent) {
	sent.Snapshot = t.Snapshot.Name
	if v.DryRun {
		sent.Parent = parentName(t)
		return sent
	}
	started := time.Now()
	defer func() { sent.Duration = time.Since(started) }()
	ladder := v.ladder(t)
	for i, parent := range ladder {
		t.Parent = parent
		sent.Parent = parentName(t)
		err := v.sendRetrying(ctx, t, &sent)
		if err == nil {
			sent.Stored = v.writeOnly()
			return sent
		}
		if i == len(ladder)-1 || ctx.Err() != nil || !mayDependOnParent(err) {
			sent.Failure = &Failure{err}
			return sent
		}
		v.Log.Warn(fmt.Sprintf("%v; trying %s", err, describeParent(ladder[i+1])))
	}
	return sent
}

// ladder gives the parents to try in turn; the last is none, for a complete copy.
func (v *visit) ladder(t Transfer) []*btrfs.Subvolume {
	const parents = 2
	rungs := []*btrfs.Subvolume{nil}
	if t.Parent == nil {
		return rungs
	}
	common := v.snapshots.copiedTo(findCopies(v.backups.InDirectory))
	best := v.snapshots.lineage(v.Source.Subvolume()).ladder(t.Snapshot, common)
	for i := range min(len(best), parents) {
		rungs = slices.Insert(rungs, i, &best[i])
	}
	return rungs
}

func parentName(t Transfer) string {
	if t.Parent == nil {
		return ""
	}
	return t.Parent.Name
}

func describeParent(parent *btrfs.Subvolume) string {
	if parent == nil {
		return "a complete copy"
	}
	return "an increment to " + Printable(parent.Name)
}

// sendRetrying sends once more from the start when the stream was bad and no program says why.
func (v *visit) sendRetrying(ctx context.Context, t Transfer, sent *Sent) error {
	err := v.attempt(ctx, t, sent)
	if isBadStream(err) && ctx.Err() == nil {
		v.Log.Warn(fmt.Sprintf("%v; sending once more from the start", err))
		err = v.attempt(ctx, t, sent)
	}
	return err
}

// attempt sends a snapshot and makes it a backup, or leaves nothing.
func (v *visit) attempt(ctx context.Context, t Transfer, sent *Sent) (err error) {
	name := t.Snapshot.Name
	defer func() {
		if err != nil {
			err = fmt.Errorf("sending %s to %s: %w", name, v.to, err)
		}
	}()
	v.Log.Info(fmt.Sprintf("%s: sending %s as %s", v.to, name, describeParent(t.Parent)))
	format, err := v.to.Accepts(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &delivery{visit: v, sent: sent, Shipment: Shipment{Transfer: t, Format: format}}
	d.Measure = func(ctx context.Context) (progress.Total, error) { return v.Source.Measure(ctx, t, format) }
	d.Wire = d.countWire
	if d.receiver, err = v.to.Receive(ctx, d.Shipment); err != nil {
		return err
	}
	d.shown = v.Progress.Start(ctx, v.to.String()+": "+name, d.Measure)
	defer func() { d.shown.Done(err) }()
	defer func() { sent.Bytes, sent.Wire = d.taken, d.wire.Load() }()
	if err := d.transmit(ctx); err != nil {
		lost := errors.Is(err, transport.ErrDisconnected) || errors.Is(err, transport.ErrUnreachable)
		if _, resumable := d.receiver.(Resumer); resumable && (ctx.Err() != nil || lost) {
			return hint.New(err, "what has arrived is kept there for a while: run it again to go on with it")
		}
		return errors.Join(err, d.receiver.Abort(context.WithoutCancel(ctx)))
	}
	return nil
}

// verify compares what was received with what was sent. There are the subvolumes of the destination's filesystem, since
// btrfs receive takes any copy of the parent there.
func verify(t Transfer, received btrfs.Subvolume, there []btrfs.Subvolume) error {
	switch {
	case !received.ReadOnly || received.ReceivedUUID != t.Snapshot.Identity():
		return fmt.Errorf("the received subvolume is not complete: read-only %t, received UUID %s instead of %s",
			received.ReadOnly, received.ReceivedUUID, t.Snapshot.Identity())
	case t.Parent == nil && !received.ParentUUID.IsZero():
		return fmt.Errorf("the received subvolume has the parent %s although a complete copy was sent", received.ParentUUID)
	case t.Parent == nil:
		return nil
	}
	identity := t.Parent.Identity()
	isParent := func(s btrfs.Subvolume) bool {
		return s.UUID == received.ParentUUID && s.ReadOnly && (s.UUID == identity || s.ReceivedUUID == identity)
	}
	if !slices.ContainsFunc(there, isParent) {
		return fmt.Errorf("the received subvolume has the parent %s, which is no copy of %s", received.ParentUUID, Printable(t.Parent.Name))
	}
	return nil
}

// isBadStream tells that the sender's output was wrong although the sender ended well.
func isBadStream(err error) bool {
	return errors.Is(err, sendstream.ErrRestartDiffers) || errors.Is(err, sendstream.ErrCorrupt) ||
		errors.Is(err, sendstream.ErrTruncated) || errors.Is(err, sendstream.ErrPrefixDiffers)
}

// isAboutDestination tells that no snapshot can be sent to the destination as it is.
func isAboutDestination(err error) bool {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EPERM, syscall.EIO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// mayDependOnParent tells whether another parent is worth trying: a program ended by itself, and not for lack of something
// that every stream needs.
func mayDependOnParent(err error) bool {
	var exit *transport.ExitError
	return errors.As(err, &exit) && !exit.Killed() && !isAboutDestination(err) && !errors.Is(err, fs.ErrExist)
}
