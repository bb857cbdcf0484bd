package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// Save sends a snapshot and makes it a backup, or leaves nothing but what a later Save can go on with.
func (c Course) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	result, err := c.attempt(ctx, t)
	if isBadStream(err) && ctx.Err() == nil {
		c.Log.Warn(fmt.Sprintf("%v; sending once more from the start", err))
		resumed := result.Resumed
		result, err = c.attempt(ctx, t)
		result.Resumed += resumed
	}
	return result, err
}

// isBadStream tells that the sender's output was wrong although the sender ended well.
func isBadStream(err error) bool {
	return errors.Is(err, sendstream.ErrRestartDiffers) || errors.Is(err, sendstream.ErrCorrupt) ||
		errors.Is(err, sendstream.ErrTruncated) || errors.Is(err, sendstream.ErrPrefixDiffers)
}

func (c Course) attempt(ctx context.Context, t engine.Transfer) (result engine.Result, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("sending %s to %s: %w", t.Snapshot.Name, c.To, err)
		}
	}()
	c.Log.Info(fmt.Sprintf("%s: %s %s as %s", c.To, cmp.Or(c.Doing, "sending"), t.Snapshot.Name, t.How()))
	format, err := c.To.Accepts(ctx)
	if err != nil {
		return result, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &delivery{Course: c, Transfer: Transfer{Transfer: t, Format: format}}
	d.Measure = func(ctx context.Context) (progress.Total, error) { return c.From.Measure(ctx, d.Transfer) }
	d.Wire, d.Copied, d.Taken = d.countWire, d.count, func(n int64) { d.shown.Add(n) }
	if d.receiver, err = c.To.Receive(ctx, d.Transfer); err != nil {
		return result, err
	}
	d.shown = c.Progress.Start(ctx, c.To.String()+": "+t.Snapshot.Name, d.Measure)
	defer func() { d.shown.Done(err) }()
	err = d.transmit(ctx)
	result = engine.Result{Bytes: d.taken.Load(), Wire: d.wire.Load(), Resumed: d.resumed, Backup: d.received}
	if err == nil {
		return result, nil
	}
	keeper, isKeeper := d.receiver.(Keeper)
	if isKeeper {
		result.KeptFor = keeper.Keeps()
	}
	lost := errors.Is(err, transport.ErrDisconnected) || errors.Is(err, transport.ErrUnreachable)
	if _, resumable := d.receiver.(Resumer); resumable && (ctx.Err() != nil || lost) {
		result.Kept = true
		return result, hint.New(err, keptHint)
	}
	if isKeeper && keeper.Keep(err) {
		if result.Kept = true; hint.Of(err) == "" {
			err = hint.New(err, keptHint)
		}
		return result, err
	}
	return result, errors.Join(err, d.receiver.Abort(context.WithoutCancel(ctx)))
}

const keptHint = "the destination keeps the received part for a while: the same command resumes the transfer"

// delivery is one attempt to send a snapshot. Written to, it counts what goes by.
type delivery struct {
	Course
	Transfer
	receiver Receiver
	shown    *progress.Transfer
	taken    atomic.Int64 // bytes of the stream
	wire     atomic.Int64
	resumed  int
	received btrfs.Subvolume // under its final name, when it is committed
}

func (d *delivery) Write(p []byte) (int, error) {
	n, err := d.receiver.Write(p)
	if _, tells := d.receiver.(Resumer); tells {
		d.taken.Add(int64(n))
	} else {
		d.count(int64(n))
	}
	return n, err
}

func (d *delivery) count(n int64) {
	d.taken.Add(n)
	d.shown.Add(n)
}

func (d *delivery) countWire(n int64) {
	d.wire.Add(n)
	d.shown.AddWire(n)
}

// transmit sends the stream and commits the received subvolume.
func (d *delivery) transmit(ctx context.Context) error {
	received, err := d.stream(ctx)
	if err != nil {
		return err
	}
	if v, ok := d.To.(Verifier); ok {
		if err := v.Verify(ctx, d.Transfer, received); err != nil {
			return err
		}
	}
	of := d.From.Origin()
	of.Sent, of.Wire = d.taken.Load(), d.wire.Load()
	if d.Parent != nil {
		of.Base = d.Parent.Identity()
	}
	of.Attributes = d.attributes(ctx)
	if err := d.receiver.Commit(ctx, of); err != nil {
		return err
	}
	d.Log.Debug(fmt.Sprintf("%s: %s is committed", d.To, d.Snapshot.Name))
	failpoint.Reach("saved")
	received.Name = d.Snapshot.Name
	d.received = received
	return nil
}

// attributes gives those that no stream holds; nil if they are not known.
func (d *delivery) attributes(ctx context.Context) []byte {
	from, canTell := d.From.(Attributed)
	to, canKeep := d.To.(Recorder)
	if !canTell || !canKeep {
		return nil
	}
	encoded, err := from.Attributes(ctx, d.Transfer, d.Parent == nil || !to.Keeps(*d.Parent))
	if err != nil && ctx.Err() == nil {
		d.Log.Warn(fmt.Sprintf("%s: what chattr set of files in %s is not recorded: %v", d.To, d.Snapshot.Name, err))
	}
	return encoded
}

// stream sends the stream to the receiver, going on where it was whenever a connection was lost.
func (d *delivery) stream(ctx context.Context) (btrfs.Subvolume, error) {
	resumer, ok := d.receiver.(Resumer)
	if !ok {
		return d.streamOnce(ctx, sendstream.Prefix{})
	}
	const attempts = 5 // in a row that bring nothing more
	for reached, vain := int64(-1), 0; ; {
		after, err := resumer.Taken(ctx)
		if err != nil {
			return btrfs.Subvolume{}, err
		}
		if vain++; after.Bytes > reached {
			reached, vain = after.Bytes, 0
		}
		d.goOn(after)
		received, err := d.streamOnce(ctx, after)
		if !errors.Is(err, transport.ErrDisconnected) || ctx.Err() != nil || vain == attempts {
			return received, err
		}
		d.Log.Warn(fmt.Sprintf("%s: sending %s: %v; connecting again", d.To, d.Snapshot.Name, err))
		d.resumed++
	}
}

func (d *delivery) streamOnce(ctx context.Context, after sendstream.Prefix) (received btrfs.Subvolume, err error) {
	sendErr := d.From.Send(ctx, d.Transfer, after, d)
	d.Log.Debug(fmt.Sprintf("%s: %s is sent", d.To, d.Snapshot.Name))
	if sendErr != nil && !receiverEnded(sendErr) {
		return received, sendErr
	}
	received, receiveErr := d.receiver.Close(ctx)
	d.Log.Debug(fmt.Sprintf("%s: %s is received", d.To, d.Snapshot.Name))
	failpoint.Reach("transferred")
	// when the receiver gave up, the sender only saw a broken pipe
	return received, cmp.Or(receiveErr, sendErr)
}

// goOn sets what the receiver has.
func (d *delivery) goOn(after sendstream.Prefix) {
	if after.Bytes == 0 && d.taken.Load() == 0 {
		return
	}
	if after.Bytes > 0 {
		d.Log.Info(fmt.Sprintf("%s: %s resumes after the %s that are there already", d.To, d.Snapshot.Name, progress.Bytes(after.Bytes)))
	} else {
		d.Log.Info(fmt.Sprintf("%s: %s is sent from the start: the received part is gone", d.To, d.Snapshot.Name))
	}
	d.taken.Store(after.Bytes)
	d.shown.Resume(after.Bytes)
}

// receiverEnded tells that sending failed because the receiver took no more.
func receiverEnded(err error) bool {
	var write *sendstream.WriteError
	return errors.As(err, &write) && !errors.Is(err, sendstream.ErrPrefixDiffers)
}
