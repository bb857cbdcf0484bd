package btrfstest

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// attach connects image to a free loop device. The kernel disconnects it when
// the last user is gone: the returned file, or a mount made while it was open.
func attach(image string) (*os.File, error) {
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()

	// Another process can take the free device first, so several tries.
	const tries = 100
	for range tries {
		var device *os.File
		device, err = attachFree(control, backing)
		if !errors.Is(err, unix.EBUSY) {
			return device, err
		}
	}
	return nil, err
}

func attachFree(control, backing *os.File) (*os.File, error) {
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("finding a free loop device: %w", err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{
		Fd:   uint32(backing.Fd()),
		Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR},
	}
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		device.Close()
		return nil, fmt.Errorf("attaching %s to %s: %w", backing.Name(), device.Name(), err)
	}
	return device, nil
}
