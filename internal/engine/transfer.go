package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
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
		var err error
		if sent.Bytes, err = v.sendRetrying(ctx, t); err == nil {
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
	best := findLineage(v.snapshots.All...).ladder(t.Snapshot, common)
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
func (v *visit) sendRetrying(ctx context.Context, t Transfer) (int64, error) {
	n, err := v.attempt(ctx, t)
	if isBadStream(err) && ctx.Err() == nil {
		v.Log.Warn(fmt.Sprintf("%v; sending once more from the start", err))
		n, err = v.attempt(ctx, t)
	}
	return n, err
}

// attempt sends a snapshot and makes it a backup, or leaves nothing.
func (v *visit) attempt(ctx context.Context, t Transfer) (bytes int64, err error) {
	name := t.Snapshot.Name
	defer func() {
		if err != nil {
			err = fmt.Errorf("sending %s to %s: %w", name, v.to, err)
		}
	}()
	v.Log.Info(fmt.Sprintf("%s: sending %s as %s", v.to, name, describeParent(t.Parent)))
	format, err := v.to.Accepts(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	receiver, err := v.to.Receive(ctx, name)
	if err != nil {
		return 0, err
	}
	counter := &counter{w: receiver, shown: v.Progress.Start(ctx, v.to.String()+": "+name,
		func(ctx context.Context) (progress.Total, error) { return v.Source.Measure(ctx, t, format) })}
	defer func() { counter.shown.Done(err) }()
	if err := v.transmit(ctx, t, format, counter, receiver); err != nil {
		return counter.n, errors.Join(err, receiver.Abort(context.WithoutCancel(ctx)))
	}
	return counter.n, nil
}

// transmit sends the stream to w, which passes it to the receiver, and commits what was received.
func (v *visit) transmit(ctx context.Context, t Transfer, format Format, w io.Writer, receiver Receiver) error {
	sendErr := v.Source.Send(ctx, t, format, w)
	v.Log.Debug(fmt.Sprintf("%s: %s is sent", v.to, t.Snapshot.Name))
	received, receiveErr := receiver.Close(ctx)
	v.Log.Debug(fmt.Sprintf("%s: %s is received", v.to, t.Snapshot.Name))
	if err := judge(sendErr, receiveErr); err != nil {
		return err
	}
	listing, err := v.to.List(ctx) // btrfs receive may have taken a parent that another run received since
	if err != nil {
		return err
	}
	if err := verify(t, received, listing.All); err != nil {
		return err
	}
	if err := receiver.Commit(ctx, v.Source.Subvolume().UUID); err != nil {
		return err
	}
	v.Log.Debug(fmt.Sprintf("%s: %s is committed", v.to, t.Snapshot.Name))
	received.Name = t.Snapshot.Name
	v.backups.InDirectory = append(v.backups.InDirectory, received)
	return nil
}

// judge picks the error to tell: when the receiver gave up, the sender only saw a broken pipe.
func judge(sendErr, receiveErr error) error {
	var write *sendstream.WriteError
	if receiveErr != nil && (sendErr == nil || errors.As(sendErr, &write)) {
		return receiveErr
	}
	return sendErr
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
		errors.Is(err, sendstream.ErrTruncated)
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

// counter counts the bytes of a stream on their way to w.
type counter struct {
	w     io.Writer
	n     int64
	shown *progress.Transfer
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.shown.Add(int64(n))
	return n, err
}
