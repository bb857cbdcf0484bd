package btrfs

import (
	"os"
	"runtime"
	"syscall"
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

// A SendError tells why a stream could not be made. errors.Is does not find its errno: it may be that of one parent, or of a file
// that another stream has no need of.
type SendError struct {
	What  string
	Errno syscall.Errno // 0: What tells all
}

func (e *SendError) Error() string {
	if e.Errno == 0 {
		return e.What
	}
	return e.What + ": " + e.Errno.Error()
}

// Send lets the kernel write the stream of a read-only subvolume to out. It needs CAP_SYS_ADMIN. What the kernel refuses is a
// *SendError. Both files may be closed meanwhile: that takes effect when the kernel is done with them.
//
// The kernel makes the stream in the calling thread, and looks at nothing else: only when it writes does it end for a reader that
// is gone (EPIPE, with a SIGPIPE), and begin anew, in the middle of the stream, after a signal or a stop of the thread
// (linux/fs/btrfs/send.c: write_buf). If it writes to a pipe without a place, that must block.
func Send(subvolume, out *os.File, o SendOptions) error {
	if _, err := readOnlyID(subvolume); err != nil {
		return err
	}
	var parent uint64
	if o.Parent != nil {
		var err error
		if parent, err = readOnlyID(o.Parent); err != nil {
			return err
		}
	}
	return withFD(subvolume, func(from uintptr) error {
		return withFD(out, func(to uintptr) error { return sendFD(from, to, parent, o) })
	})
}

// readOnlyID fails for a subvolume that can be written to, since the EPERM of the kernel does not tell why.
func readOnlyID(subvolume *os.File) (uint64, error) {
	info, err := Info(subvolume)
	if err == nil && !info.ReadOnly {
		err = &SendError{What: subvolume.Name() + " is not read-only"}
	}
	return info.ID, err
}

// withFD calls use with the descriptor, which stays open for that long.
func withFD(f *os.File, use func(fd uintptr) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if controlErr := raw.Control(func(fd uintptr) { err = use(fd) }); controlErr != nil {
		return controlErr
	}
	return err
}

func sendFD(subvolume, out uintptr, parent uint64, o SendOptions) error {
	arg, request := make([]byte, 72), uintptr(0x40489426) // linux/btrfs.h: struct btrfs_ioctl_send_args, BTRFS_IOC_SEND
	rest := arg[24:]                                      // behind the pointer
	if runtime.GOARCH == "386" {                          // where it is not aligned
		arg, request = arg[:68], 0x40449426
		rest = arg[20:]
	}
	native.PutUint64(arg[0:], uint64(out))
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
		sources[0] = parent
		native.PutUint64(arg[8:], uint64(len(sources)))
		*(*uintptr)(unsafe.Pointer(&arg[16])) = uintptr(unsafe.Pointer(sources))
		native.PutUint64(rest[0:], parent)
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, subvolume, request, uintptr(unsafe.Pointer(unsafe.SliceData(arg)))); errno != 0 {
		return &SendError{What: "the kernel's send", Errno: errno}
	}
	return nil
}
