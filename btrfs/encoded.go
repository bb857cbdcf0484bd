package btrfs

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

// largestEncoded is what a compressed extent has at most, and what it holds. linux/btrfs.h: BTRFS_MAX_COMPRESSED
const largestEncoded = 128 << 10

// ReadEncoded reads the extent of a file at an offset as it is on the disk, if it is compressed, and else what it holds from there
// on, up to 128 KiB. Compressed data is filled up with zeros there, to the end of its last sector. It needs Linux 5.18 and
// CAP_SYS_ADMIN.
func ReadEncoded(file *os.File, offset int64) ([]byte, Compression, error) {
	const pointer = int(unsafe.Sizeof(uintptr(0)))
	data := make([]byte, largestEncoded)
	vector := &struct {
		base *byte
		size uintptr
	}{unsafe.SliceData(data), uintptr(len(data))} // struct iovec
	var pinned runtime.Pinner
	pinned.Pin(vector)
	pinned.Pin(unsafe.SliceData(data))
	defer pinned.Unpin()

	arg, request := make([]byte, 128), uintptr(0x80809440) // linux/btrfs.h: struct btrfs_ioctl_encoded_io_args, BTRFS_IOC_ENCODED_READ
	if pointer == 4 {
		arg, request = arg[:120], 0x80789440
	}
	*(*uintptr)(unsafe.Pointer(&arg[0])) = uintptr(unsafe.Pointer(vector))
	*(*uintptr)(unsafe.Pointer(&arg[pointer])) = 1
	rest := arg[2*pointer:]
	native.PutUint64(rest, uint64(offset))
	n, err := ioctlCount(file, request, arg)
	if err != nil {
		return nil, 0, fmt.Errorf("reading %s at %d as it is on the disk: %w", file.Name(), offset, err)
	}
	switch kind := native.Uint32(rest[40:]); kind { // linux/btrfs.h: BTRFS_ENCODED_IO_COMPRESSION_ZLIB and the others
	case 0:
		return data[:n], Uncompressed, nil
	case 1:
		return data[:n], Zlib, nil
	case 2:
		return data[:n], Zstd, nil
	default:
		return data[:n], LZO, nil
	}
}
