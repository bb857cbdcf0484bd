package btrfs

import (
	"encoding/binary"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linux/btrfs.h: request numbers, _IOC(direction, 0x94, number, size of the argument).
const (
	iocSync             = 0x9408     // no argument
	iocSpaceInfo        = 0xc0109414 // struct btrfs_ioctl_space_args
	iocDevInfo          = 0xd000941e // struct btrfs_ioctl_dev_info_args
	iocBalanceProgress  = 0x84009422 // struct btrfs_ioctl_balance_args
	iocDevReplace       = 0xca289435 // struct btrfs_ioctl_dev_replace_args
	iocGetFeatures      = 0x80189439 // struct btrfs_ioctl_feature_flags
	iocLogicalInoV2     = 0xc038943b // struct btrfs_ioctl_logical_ino_args
	iocTreeSearchV2     = 0xc0709411 // struct btrfs_ioctl_search_args_v2
	iocDefaultSubvol    = 0x40089413 // the ID
	iocInoLookup        = 0xd0009412 // struct btrfs_ioctl_ino_lookup_args
	iocSnapCreateV2     = 0x50009417 // struct btrfs_ioctl_vol_args_v2
	iocSetReceived      = 0xc0c89425 // struct btrfs_ioctl_received_subvol_args
	iocFSInfo           = 0x8400941f // struct btrfs_ioctl_fs_info_args
	iocGetSubvolInfo    = 0x81f8943c // struct btrfs_ioctl_get_subvol_info_args
	iocGetSubvolRootref = 0xd000943d // struct btrfs_ioctl_get_subvol_rootref_args
	iocInoLookupUser    = 0xd000943e // struct btrfs_ioctl_ino_lookup_user_args
)

// ioctl passes arg, a struct of the kernel laid out as bytes, and returns the bare errno.
func ioctl(f *os.File, request uintptr, arg []byte) error {
	_, err := ioctlCount(f, request, arg)
	return err
}

// ioctlCount is ioctl for one that tells a number.
func ioctlCount(f *os.File, request uintptr, arg []byte) (int, error) {
	return ioctlAt(int(f.Fd()), request, arg)
}

func ioctlAt(fd int, request uintptr, arg []byte) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(unsafe.SliceData(arg))))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// ioctl structs have the byte order of the machine, items of the trees are little-endian.
var (
	native = binary.NativeEndian
	le     = binary.LittleEndian
)

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

func uuidAt(b []byte, offset int) UUID { return UUID(b[offset : offset+16]) }

func timeAt(order binary.ByteOrder, b []byte, offset int) time.Time {
	sec, nsec := order.Uint64(b[offset:]), order.Uint32(b[offset+8:])
	if sec == 0 && nsec == 0 {
		return time.Time{}
	}
	return time.Unix(int64(sec), int64(nsec))
}
