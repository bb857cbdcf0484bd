package heal

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// A device is open for reading and writing past all caches, if the kernel allows it.
type device struct {
	*os.File
	noWrite error
}

// device opens that of a copy. The device is given with ErrNoDeviceWrite, too.
func (d *doctor) device(c btrfs.Copy) (*device, error) {
	if known, ok := d.devices[c.DeviceUUID]; ok {
		return known, known.noWrite
	}
	opened, err := openDevice(c)
	if err != nil {
		return nil, err
	}
	d.devices[c.DeviceUUID] = opened
	return opened, opened.noWrite
}

func openDevice(c btrfs.Copy) (*device, error) {
	const flags = unix.O_DIRECT | unix.O_DSYNC | unix.O_CLOEXEC
	d := &device{}
	file, err := os.OpenFile(c.Device, os.O_RDWR|flags, 0)
	// linux/block/bdev.c (6.8): bdev_may_open, without CONFIG_BLK_DEV_WRITE_MOUNTED
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		d.noWrite = fmt.Errorf("%w: %w", ErrNoDeviceWrite, err)
		file, err = os.OpenFile(c.Device, os.O_RDONLY|flags, 0)
	}
	if err != nil {
		return nil, err
	}
	d.File = file
	if err := d.mustBe(c.DeviceUUID); err != nil {
		file.Close()
		return nil, err
	}
	return d, nil
}

// mustBe fails unless the device is that of the filesystem: the kernel's name for it may be that of another one by now.
func (d *device) mustBe(uuid btrfs.UUID) error {
	const at, size, magicAt, magic, uuidAt = 64 << 10, 4096, 64, "_BHRfS_M", 267 // linux/btrfs_tree.h: struct btrfs_super_block
	super, err := d.read(at, size)
	if err != nil {
		return err
	}
	if string(super[magicAt:magicAt+len(magic)]) != magic || btrfs.UUID(super[uuidAt:uuidAt+16]) != uuid {
		return fmt.Errorf("%s is not the device %s of the filesystem", d.Name(), uuid)
	}
	return nil
}

func (d *device) read(at, length int64) ([]byte, error) {
	buffer := aligned(length)
	if _, err := d.ReadAt(buffer, at); err != nil {
		return nil, err
	}
	return buffer, nil
}

// write writes a block past the caches, and waits until it is on the device.
func (d *device) write(block []byte, at int64) error {
	buffer := aligned(int64(len(block)))
	copy(buffer, block)
	_, err := d.WriteAt(buffer, at)
	if errors.Is(err, unix.EPERM) { // linux/block/fops.c: blkdev_write_iter, of a device that is read-only
		return fmt.Errorf("%w: %w", ErrNoDeviceWrite, err)
	}
	return err
}

// aligned gives memory as O_DIRECT needs it.
func aligned(length int64) []byte {
	const page = 4096
	room := make([]byte, length+page)
	start := page - int64(uintptr(unsafe.Pointer(unsafe.SliceData(room)))%page)
	return room[start : start+length]
}
