package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// sendPatience is how long the kernel is waited for that has nobody to write to. It notices when it writes next, and reads as much
// of the trees and of the disk before as it needs to; no signal hurries it.
const sendPatience = 2 * time.Second

// sendByKernel lets the kernel send a subvolume to read.
func (h *Host) sendByKernel(ctx context.Context, snapshot *os.File, options btrfs.SendOptions, read func(io.Reader) error) error {
	onUnfinished := func() {
		h.log.Debug("the kernel goes on with the stream of " + snapshot.Name() + " until it writes next")
	}
	return fromKernel(ctx, read, func(w *os.File) error { return btrfs.Send(snapshot, w, options) }, sendPatience, onUnfinished)
}

// fromKernel gives read what the kernel writes in a call, which is on a thread of its own that takes no signals. The kernel is left
// to itself if it does not end in time when nobody reads any more.
func fromKernel(ctx context.Context, read func(io.Reader) error, write func(*os.File) error, patience time.Duration, onUnfinished func()) error {
	r, w, err := transport.Pipe()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _, _ = w.Write([]byte{0}) })() // which ends a Read that waits
	written := make(chan error, 1)
	onThread(func() {
		err := blockSignals()
		if err == nil {
			err = write(w)
		}
		w.Close()
		written <- err
	})
	readErr := read(untilDone{r, ctx})
	r.Close() // which ends what is still written
	var writeErr error
	select {
	case writeErr = <-written:
	case <-time.After(patience):
		onUnfinished()
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the kernel's send was stopped: %w", context.Cause(ctx))
	case readErr == nil, writeErr != nil && endedEarly(readErr):
		return writeErr
	}
	return readErr
}

// untilDone reads while there is somebody to read for.
type untilDone struct {
	io.Reader
	ctx context.Context
}

func (u untilDone) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return n, err
}

// endedEarly tells that the stream broke off, or never began: whoever made it knows best why.
func endedEarly(err error) bool {
	return errors.Is(err, sendstream.ErrTruncated) || errors.Is(err, sendstream.ErrEmpty)
}

// blockSignals keeps all signals from the calling thread.
func blockSignals() error {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	return unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil)
}

// onThread runs do on a thread that ends with it. That is never the first one, by whose namespace the process is known.
func onThread(do func()) {
	own := func() {
		runtime.LockOSThread() // for good: a thread whose goroutine ends locked ends too
		do()
	}
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			own()
			return
		}
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		go func() {
			defer close(done)
			own()
		}()
		<-done
	}()
}
