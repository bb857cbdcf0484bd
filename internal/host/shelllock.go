package host

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"btrfs-backup/lock"
)

// lockInterval is how often a lock is tried for that another process holds.
const lockInterval = time.Second

// shellLock is a session that holds the lock of a directory while its input is open.
type shellLock struct {
	script *remoteScript
	once   sync.Once
	ended  chan struct{}
	err    error // after ended
}

// Lock takes the lock that lock.Acquire takes over there, by the program flock. Without one it warns and locks nothing.
//
// Each try is asked for from here, so that none goes on when the connection is lost.
func (d *shellDir) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	// the lock outlives the context that ends the waiting
	lockCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	l, err := d.acquire(lockCtx, waiting)
	if !stop() && err == nil && l != nil {
		_ = l.release() // it came too late
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel(nil)
		if lock.IsHeld(err) {
			return nil, err
		}
		return nil, fmt.Errorf("locking %s: %w", d.place.Path, err)
	}
	if l == nil {
		return func() error { return nil }, nil
	}
	d.mu.Lock()
	d.locks = append(d.locks, l)
	d.mu.Unlock()
	return func() error {
		d.mu.Lock()
		d.locks = slices.DeleteFunc(d.locks, func(held *shellLock) bool { return held == l })
		d.mu.Unlock()
		return l.release()
	}, nil
}

// acquire gives nil where there is no flock.
func (d *shellDir) acquire(ctx context.Context, waiting func(*lock.HeldError)) (*shellLock, error) {
	script, err := d.host.start(ctx, "flock", scriptLock, d.arguments()...)
	if err != nil {
		return nil, err
	}
	told := false
	for {
		_, writeErr := io.WriteString(script.session.Stdin, "\n")
		state, readErr := script.field()
		switch {
		case state == "locked":
			return d.hold(script), nil
		case state == "none":
			d.host.options.Log.Warn(fmt.Sprintf("%s has no program flock: other runs are not kept out of %s", d.host, d.place.Path))
			return nil, script.Wait()
		case state != "held":
			_ = script.session.Stdin.Close() // it ended
			return nil, cmp.Or(script.Wait(), readErr, writeErr, errIncomplete)
		case waiting == nil:
			_ = script.session.Stdin.Close()
			_ = script.Wait() // nothing was locked
			return nil, &lock.HeldError{Dir: d.place.Path}
		case !told:
			waiting(&lock.HeldError{Dir: d.place.Path})
			told = true
		}
		select {
		case <-time.After(lockInterval):
		case <-ctx.Done(): // which ends the session
		}
	}
}

// hold watches a lock to its end.
func (d *shellDir) hold(script *remoteScript) *shellLock {
	l := &shellLock{script: script, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		_, _ = io.Copy(io.Discard, script.out) // there is nothing but its end
		released := true
		l.once.Do(func() { released = false })
		if err := script.Wait(); !released {
			d.host.options.Log.Warn(fmt.Sprintf("the lock on %s was lost: %v", d.place.Path, err))
		} else {
			l.err = err
		}
	}()
	return l
}

// release ends the session and waits until the lock is free.
func (l *shellLock) release() error {
	l.once.Do(func() { _ = l.script.session.Stdin.Close() }) // the end of the session tells more
	<-l.ended
	return l.err
}
