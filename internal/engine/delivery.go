package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/failpoint"
	"btrfs-backup/internal/progress"
	"btrfs-backup/transport"
)

// delivery is one attempt to send a snapshot. Written to, it counts what goes by.
type delivery struct {
	*visit
	Shipment
	sent     *Sent
	receiver Receiver
	shown    *progress.Transfer
	taken    int64 // bytes of the stream
	wire     atomic.Int64
}

func (d *delivery) Write(p []byte) (int, error) {
	n, err := d.receiver.Write(p)
	d.taken += int64(n)
	d.shown.Add(int64(n))
	return n, err
}

func (d *delivery) countWire(n int64) {
	d.wire.Add(n)
	d.shown.AddWire(n)
}

// transmit sends the stream and commits what was received.
func (d *delivery) transmit(ctx context.Context) error {
	received, err := d.stream(ctx)
	if err != nil {
		return err
	}
	if d.writeOnly() {
		received = assumedCopy(d.Snapshot)
	} else if err := d.verify(ctx, received); err != nil {
		return err
	}
	if err := d.receiver.Commit(ctx, d.Source.Subvolume().UUID); err != nil {
		return err
	}
	d.Log.Debug(fmt.Sprintf("%s: %s is committed", d.to, d.Snapshot.Name))
	failpoint.Reach("saved")
	received.Name = d.Snapshot.Name
	d.backups.InDirectory = append(d.backups.InDirectory, received)
	return nil
}

// verify lists the destination anew: btrfs receive may have taken a parent that another run received since.
func (d *delivery) verify(ctx context.Context, received btrfs.Subvolume) error {
	listing, err := d.to.List(ctx)
	if err != nil {
		return err
	}
	return verify(d.Transfer, received, listing.All)
}

// stream sends the stream to the receiver, going on where it was whenever a connection was lost.
func (d *delivery) stream(ctx context.Context) (btrfs.Subvolume, error) {
	o := SendOptions{Format: d.Format, Wire: d.Wire}
	resumer, ok := d.receiver.(Resumer)
	if !ok {
		return d.streamOnce(ctx, o)
	}
	const attempts = 5 // in a row that bring nothing more
	for reached, vain := int64(-1), 0; ; {
		var err error
		if o.After, err = resumer.Taken(ctx); err != nil {
			return btrfs.Subvolume{}, err
		}
		if vain++; o.After.Bytes > reached {
			reached, vain = o.After.Bytes, 0
		}
		d.goOn(o.After)
		received, err := d.streamOnce(ctx, o)
		if !errors.Is(err, transport.ErrDisconnected) || ctx.Err() != nil || vain == attempts {
			return received, err
		}
		d.Log.Warn(fmt.Sprintf("%s: sending %s: %v; trying to reach it again", d.to, d.Snapshot.Name, err))
		d.sent.Resumed++
	}
}

func (d *delivery) streamOnce(ctx context.Context, o SendOptions) (received btrfs.Subvolume, err error) {
	sendErr := d.Source.Send(ctx, d.Transfer, o, d)
	d.Log.Debug(fmt.Sprintf("%s: %s is sent", d.to, d.Snapshot.Name))
	if sendErr != nil && !receiverEnded(sendErr) {
		return received, sendErr
	}
	received, receiveErr := d.receiver.Close(ctx)
	d.Log.Debug(fmt.Sprintf("%s: %s is received", d.to, d.Snapshot.Name))
	failpoint.Reach("transferred")
	// when the receiver gave up, the sender only saw a broken pipe
	return received, cmp.Or(receiveErr, sendErr)
}

// goOn sets what the receiver has.
func (d *delivery) goOn(after sendstream.Prefix) {
	if after.Bytes == 0 && d.taken == 0 {
		return
	}
	if after.Bytes > 0 {
		d.Log.Info(fmt.Sprintf("%s: %s goes on after the %s that are there already", d.to, d.Snapshot.Name, progress.Bytes(after.Bytes)))
	} else {
		d.Log.Info(fmt.Sprintf("%s: %s is sent from the start: nothing of it is there any more", d.to, d.Snapshot.Name))
	}
	d.taken = after.Bytes
	d.shown.Resume(after.Bytes)
}

// receiverEnded tells that sending failed because the receiver took no more.
func receiverEnded(err error) bool {
	var write *sendstream.WriteError
	return errors.As(err, &write) && !errors.Is(err, sendstream.ErrPrefixDiffers)
}
