package btrfs

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

// linux/btrfs.h: BTRFS_SEND_FLAG_NO_FILE_DATA, _VERSION, _COMPRESSED
const (
	sendNoData     = 1 << 0
	sendVersion    = 1 << 3
	sendCompressed = 1 << 4
)

// SendOptions tell what stream is sent.
type SendOptions struct {
	Parent     *os.File // the subvolume that it builds on; nil: none
	Protocol   int      // above 1: Linux 6.0
	Compressed bool     // with the data of compressed extents as it is on the disk
	NoData     bool     // nothing of what files hold
}

// Send lets the kernel write the stream of a read-only subvolume to out. It needs CAP_SYS_ADMIN. A signal to the calling thread
// makes the kernel begin anew in the middle of the stream.
func Send(subvolume, out *os.File, o SendOptions) error {
	arg, request := make([]byte, 72), uintptr(0x40489426) // linux/btrfs.h: struct btrfs_ioctl_send_args, BTRFS_IOC_SEND
	rest := arg[24:]                                      // behind the pointer
	if runtime.GOARCH == "386" {                          // where it is not aligned
		arg, request = arg[:68], 0x40449426
		rest = arg[20:]
	}
	native.PutUint64(arg[0:], uint64(out.Fd()))
	var flags uint64
	if o.Protocol > 1 {
		flags |= sendVersion
		native.PutUint32(rest[16:], uint32(o.Protocol))
	}
	if o.Compressed {
		flags |= sendCompressed
	}
	if o.NoData {
		flags |= sendNoData
	}
	native.PutUint64(rest[8:], flags)
	sources := new([1]uint64)
	var pinned runtime.Pinner
	pinned.Pin(sources)
	defer pinned.Unpin()
	if o.Parent != nil { // the files that it has are cloned, too
		parent, err := Info(o.Parent)
		if err != nil {
			return err
		}
		sources[0] = parent.ID
		native.PutUint64(arg[8:], uint64(len(sources)))
		*(*uintptr)(unsafe.Pointer(&arg[16])) = uintptr(unsafe.Pointer(sources))
		native.PutUint64(rest[0:], parent.ID)
	}
	if err := ioctl(subvolume, request, arg); err != nil {
		return fmt.Errorf("sending %s: %w", subvolume.Name(), err)
	}
	return nil
}
