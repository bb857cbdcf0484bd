package local

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

// sendOpened lets the kernel send the subvolumes that are opened here, beneath the directory. `btrfs send` would look its paths up
// anew, and realpath(3) follows a symbolic link that came meanwhile, even where a mount does not.
func (d *Dir) sendOpened(ctx context.Context, o host.SendOrder, own format, noData bool, read func(io.Reader) error) error {
	snapshot, err := d.openSubvolume(o.Snapshot)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	protocol := protocolOf(o, own, kernelProtocol())
	options := btrfs.SendOptions{Protocol: protocol, Compressed: protocol > 1 && o.Format.Compressed && !noData, NoData: noData}
	if o.Parent != "" {
		if options.Parent, err = d.openSubvolume(o.Parent); err != nil {
			return err
		}
		defer options.Parent.Close()
	}
	return sendByKernel(ctx, snapshot, options, read)
}

// sendByKernel lets the kernel send a subvolume to read, on a thread that takes no signals.
func sendByKernel(ctx context.Context, snapshot *os.File, options btrfs.SendOptions, read func(io.Reader) error) error {
	r, w, err := os.Pipe() // whose Close ends a Read that waits
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { r.Close() })()
	sent := make(chan error, 1)
	onThread(func() {
		var all unix.Sigset_t
		for i := range all.Val {
			all.Val[i] = ^all.Val[i]
		}
		err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil)
		if err == nil {
			err = btrfs.Send(snapshot, w, options)
		}
		w.Close()
		sent <- err
	})
	readErr := read(r)
	r.Close() // which ends what is still sent
	sendErr := <-sent
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("btrfs send stopped: %w", context.Cause(ctx))
	case readErr == nil, sendErr != nil && endedEarly(readErr):
		return sendErr
	}
	return readErr
}

// openSubvolume opens a subvolume in the directory.
func (d *Dir) openSubvolume(name string) (*os.File, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is not the name of a subvolume", name)
	}
	sub, err := btrfs.OpenDirAt(d.dir, name)
	if err != nil {
		return nil, err
	}
	if err := btrfs.CheckSubvolume(sub); err != nil {
		sub.Close()
		return nil, &os.PathError{Op: "open", Path: sub.Name(), Err: err}
	}
	return sub, nil
}
