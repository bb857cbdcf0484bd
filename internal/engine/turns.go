package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/lock"
)

// Each of two runs may have as its source what is the other's destination. So no run waits for the lock of a destination while it
// holds that of its source, unless another destination is being served meanwhile. What is in use until then is put off: the run
// gives the lock of its source up until the destination is free, and lists both anew.

// errPutOff tells that a destination is in use, and that nothing else is left to do.
var errPutOff = errors.New("put off")

// lockInTurn takes the lock of the destination, or puts it off.
func (v *visit) lockInTurn(ctx context.Context) (release func(), err error) {
	if v.history == nil || v.NoWait || v.DryRun {
		return v.Lock(ctx, v.to, v.lister, !v.NoWait)
	}
	release, err = v.Lock(ctx, v.to, v.lister, false)
	held := new(lock.HeldError)
	if !errors.As(err, &held) {
		return release, err
	}
	v.Log.Info(fmt.Sprintf("%s: waiting for %s", v.to, held.Holder()))
	v.working.Add(-1)
	defer v.working.Add(1)
	for lock.IsHeld(err) {
		if err := pause(ctx, time.Second/3); err != nil {
			return nil, err
		}
		if v.working.Load() == 0 {
			return nil, errPutOff
		}
		release, err = v.Lock(ctx, v.to, v.lister, false)
	}
	return release, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// serveInTurn serves the destinations side by side, and those that are in use afterwards.
func (r *run) serveInTurn(ctx context.Context) {
	for visits := r.visits; ; {
		r.serveAll(ctx, visits)
		visits = slices.DeleteFunc(slices.Clone(visits), func(v *visit) bool { return !v.putOff })
		if len(visits) == 0 {
			return
		}
		if err := r.awaitTurn(ctx, visits); err != nil {
			for _, v := range visits {
				v.fail(ctx, err)
			}
			return
		}
	}
}

// awaitTurn waits until one of the destinations is free, and meanwhile holds no lock.
func (r *run) awaitTurn(ctx context.Context, visits []*visit) error {
	if r.updateLedger(ctx, func(*lock.Ledger) {}); r.unwritten != nil {
		return fmt.Errorf("in use, and cannot be waited for: %w", r.unwritten)
	}
	r.release()
	r.release, r.snapshots.Ledger = func() {}, nil // which is another run's now
	isFree := func(v *visit) bool {
		release, err := v.Lock(ctx, v.to, v.lister, false)
		if err == nil {
			release()
		}
		return !lock.IsHeld(err) // if it cannot be locked, the visit tells why
	}
	for free := false; !free; free = slices.ContainsFunc(visits, isFree) {
		if err := pause(ctx, rand.N(time.Second)); err != nil { // at random: two that waited for each other would go on to
			return err
		}
	}
	return r.openHistory(ctx)
}
