package btrfs

import (
	"runtime"
	"unsafe"
)

// LargestEncoded is what a compressed extent has at most, and what it holds. linux/btrfs.h: BTRFS_MAX_COMPRESSED
const LargestEncoded = 128 << 10

// An Encoded is a part of a file as it is on the disk.
type Encoded struct {
	Data []byte
	// Encoding is how Data is compressed. linux/btrfs.h: BTRFS_ENCODED_IO_COMPRESSION_*
	Encoding uint32
	Length   int64 // of the part in the file
	Whole    int64 // of what Data holds, uncompressed
	Skip     int64 // where in the whole the part begins
}

// linux/btrfs.h: BTRFS_ENCODED_IO_COMPRESSION_ZLIB and the others. That of LZO depends on the size of a sector, up to 64 KiB.
const (
	encodedZlib = 1 + iota
	encodedZstd
	encodedLZO4K
	encodedLast = encodedLZO4K + 4
)

// Compression tells how the data is compressed; ok is false if that is not known.
func (e Encoded) Compression() (c Compression, ok bool) {
	switch {
	case e.Encoding == 0:
		return Uncompressed, true
	case e.Encoding == encodedZlib:
		return Zlib, true
	case e.Encoding == encodedZstd:
		return Zstd, true
	}
	return LZO, e.Encoding <= encodedLast
}

// Sector is the size of the sectors into which data that is compressed by LZO is cut.
func (e Encoded) Sector() int { return 4096 << (max(e.Encoding, encodedLZO4K) - encodedLZO4K) }

// ReadEncoded reads into a buffer what a file has at an offset: the whole extent as it is on the disk, if it is compressed, else what it
// holds from there on. Compressed data is filled up with zeros there, to the end of its last sector. A buffer of LargestEncoded
// always suffices. It needs Linux 5.18 and CAP_SYS_ADMIN.
func ReadEncoded(fd int, offset int64, buffer []byte) (e Encoded, err error) {
	io := newEncodedIO(offset, buffer)
	n, err := io.call(fd, ioRead)
	if err != nil {
		return e, err
	}
	return Encoded{buffer[:n], native.Uint32(io.rest[40:]), int64(native.Uint64(io.rest[16:])), int64(native.Uint64(io.rest[24:])),
		int64(native.Uint64(io.rest[32:]))}, nil
}

// WriteEncoded writes compressed data into a file as it is. What the kernel cannot take is EINVAL. It needs Linux 5.18 and
// CAP_SYS_ADMIN.
func WriteEncoded(fd int, offset int64, e Encoded) error {
	io := newEncodedIO(offset, e.Data)
	native.PutUint64(io.rest[16:], uint64(e.Length))
	native.PutUint64(io.rest[24:], uint64(e.Whole))
	native.PutUint64(io.rest[32:], uint64(e.Skip))
	native.PutUint32(io.rest[40:], e.Encoding)
	_, err := io.call(fd, ioWrite)
	return err
}

// encodedIO is a struct btrfs_ioctl_encoded_io_args (linux/btrfs.h).
type encodedIO struct {
	arg  []byte
	rest []byte // behind pointer and number of the buffers
	data []byte
}

const pointerSize = int(unsafe.Sizeof(uintptr(0)))

func newEncodedIO(offset int64, data []byte) encodedIO {
	arg := make([]byte, 112+2*pointerSize)
	io := encodedIO{arg, arg[2*pointerSize:], data}
	native.PutUint64(io.rest, uint64(offset))
	return io
}

// linux/btrfs.h: the directions of BTRFS_IOC_ENCODED_READ and BTRFS_IOC_ENCODED_WRITE
const (
	ioWrite = 0x40009440
	ioRead  = 0x80009440
)

func (io encodedIO) call(fd int, direction uintptr) (int, error) {
	vector := &struct {
		base *byte
		size uintptr
	}{unsafe.SliceData(io.data), uintptr(len(io.data))} // struct iovec
	var pinned runtime.Pinner
	pinned.Pin(vector)
	pinned.Pin(vector.base)
	defer pinned.Unpin()
	*(*uintptr)(unsafe.Pointer(&io.arg[0])) = uintptr(unsafe.Pointer(vector))
	*(*uintptr)(unsafe.Pointer(&io.arg[pointerSize])) = 1
	return ioctlAt(fd, direction|uintptr(len(io.arg))<<16, io.arg)
}
