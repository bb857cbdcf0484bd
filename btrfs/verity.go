package btrfs

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Verity tells how a file is sealed by fs-verity.
type Verity struct {
	Algorithm       uint8
	BlockSize       uint32 // bytes
	Salt, Signature []byte
}

// EnableVerity seals a file that is open for reading, and by nobody for writing: its content can be changed no more, and is checked
// whenever it is read. It needs a kernel with fs-verity.
func EnableVerity(fd int, v Verity) error {
	const request = 0x40806685 // linux/fsverity.h: FS_IOC_ENABLE_VERITY, struct fsverity_enable_arg
	arg := make([]byte, 128)
	native.PutUint32(arg[0:], 1) // version
	native.PutUint32(arg[4:], uint32(v.Algorithm))
	native.PutUint32(arg[8:], v.BlockSize)
	var pinned runtime.Pinner
	defer pinned.Unpin()
	put := func(data []byte, size, pointer []byte) {
		if len(data) > 0 {
			pinned.Pin(unsafe.SliceData(data))
			native.PutUint32(size, uint32(len(data)))
			native.PutUint64(pointer, uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data)))))
		}
	}
	put(v.Salt, arg[12:], arg[16:])
	put(v.Signature, arg[24:], arg[32:])
	_, err := ioctlAt(fd, request, arg)
	if err == unix.EOPNOTSUPP || err == unix.ENOTTY {
		return fmt.Errorf("this kernel or filesystem has no fs-verity: %w", err)
	}
	return err
}
