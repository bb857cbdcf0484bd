package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"

	"golang.org/x/sys/unix"
)

// Close unmounts, locks and ejects the disk, as far as this program opened it and no other run uses it; that one does so in the
// end. While the disk is in use it waits for a while; then the error is a BusyError, and the next run tries again. The
// context must not be one that a signal ended.
func (o *Opened) Close(ctx context.Context) error {
	err := o.options.place(o.disk.Name).alone(ctx, func() error {
		n, err := o.current()
		if err != nil {
			return errors.Join(err, o.use.Close())
		}
		return o.closeUnlessUsed(ctx, n)
	})
	return o.named(err)
}

func (o *Opened) named(err error) error {
	if err != nil {
		err = fmt.Errorf("disk %s: %w", o.disk.Name, err)
	}
	return err
}

// CloseAbandoned closes the disks that killed runs opened and nobody uses, also those that are not in the configuration any more.
func CloseAbandoned(ctx context.Context, options Options) error {
	entries, err := os.ReadDir(options.notes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		o := Disk{Name: entry.Name()}.newOpened(options)
		errs = append(errs, o.named(options.place(entry.Name()).alone(ctx, func() error { return o.closeAbandoned(ctx) })))
	}
	return errors.Join(errs...)
}

func (o *Opened) closeAbandoned(ctx context.Context) error {
	n, err := o.current()
	if err != nil {
		return err
	}
	if n.isEmpty() {
		return o.write(n)
	}
	unused, err := o.use.TryLock()
	if err != nil || !unused {
		return err
	}
	defer o.use.Close()
	o.options.Log.Warn(fmt.Sprintf("disk %s was left open by a run that was killed: closing it", o.disk.Name))
	return o.close(ctx, n)
}

// closeUnlessUsed gives up the use of the disk. What is open of it is closed unless another run uses it.
func (o *Opened) closeUnlessUsed(ctx context.Context, n note) error {
	if err := o.use.Unlock(); err != nil {
		return err
	}
	unused, err := o.use.TryLock()
	if err != nil {
		return err
	}
	defer o.use.Close()
	if !unused {
		o.options.Log.Debug(fmt.Sprintf("disk %s: another run uses it", o.disk.Name))
		n.Changing = false
		return o.write(n)
	}
	return o.close(ctx, n)
}

// close closes what the note tells of.
func (o *Opened) close(ctx context.Context, n note) error {
	n.Changing = false
	if n.Disk.Name == "" {
		return nil
	}
	var devices []string
	if n.Mount != 0 && n.Disk.Eject {
		var err error
		if devices, err = o.options.wholeDevices(n.Disk.Mount); err != nil {
			return errors.Join(err, o.write(n))
		}
	}
	var lost error // closing goes on
	if n.Mount != 0 {
		lost = syncAt(n.Disk.Mount)
		if err := o.options.unmount(ctx, n.Disk.Mount); err != nil {
			return errors.Join(lost, err, o.write(n))
		}
		failpoint.Reach("disk unmounted")
		o.options.Log.Info(fmt.Sprintf("disk %s: unmounted %s", o.disk.Name, n.Disk.Mount))
		n.Mount = 0
	}
	if n.Mapping != 0 {
		if err := o.options.lockPatiently(ctx, n.Disk); err != nil {
			return errors.Join(lost, err, o.write(n))
		}
		failpoint.Reach("disk locked")
		o.options.Log.Info(fmt.Sprintf("disk %s: locked %s", o.disk.Name, n.Disk.LUKS))
		n.Mapping = 0
	}
	if err := errors.Join(lost, o.write(n)); err != nil {
		return err
	}
	if n.Disk.LUKS != "" && exists(o.options.mapping(n.Disk)) {
		return nil // somebody else unlocked it
	}
	return o.options.eject(ctx, o.disk.Name, devices)
}

func (o Options) unmount(ctx context.Context, dir string) error {
	err := o.patiently(ctx, func() error {
		err := o.run(ctx, "umount", dir)
		if err != nil && strings.Contains(err.Error(), "busy") {
			return errBusy
		}
		return err
	})
	if errors.Is(err, errBusy) {
		return &BusyError{Path: dir, Action: "unmounting", Holders: holdersOfMount(dir)}
	}
	return err
}

// syncAt brings all data to a disk. Unmounting would, too, without telling what fails of that.
func syncAt(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := btrfs.SyncFilesystem(f); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

func (o Options) lockPatiently(ctx context.Context, d Disk) error {
	mapping := o.mapping(d)
	err := o.patiently(ctx, func() error {
		if err := unusedDevice(mapping); err != nil {
			return err
		}
		return o.lock(ctx, d)
	})
	if errors.Is(err, errBusy) {
		return &BusyError{Path: mapping, Action: "locking", Holders: holdersOfDevice(mapping)}
	}
	return err
}

// unusedDevice opens a device as the kernel lets only one do: neither it nor a part of it is mounted, mapped or the like.
func unusedDevice(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return errBusy
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	return unix.Close(fd)
}

// patiently tries again for a while as long as something is busy: what uses the disk may be about to end.
func (o Options) patiently(ctx context.Context, try func() error) error {
	patience := o.Patience
	if patience == 0 {
		patience = 10 * time.Second
	}
	const pause = 100 * time.Millisecond
	err := try()
	for end := time.Now().Add(patience); errors.Is(err, errBusy) && time.Now().Before(end); err = try() {
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	return err
}
