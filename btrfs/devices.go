package btrfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrUnsupported tells of a layout, a checksum or a feature of a filesystem that is not known here.
var ErrUnsupported = errors.New("not supported")

// A Chunk is a part of the address space of a filesystem, which lies at one place of each device that has it.
type Chunk struct {
	Logical uint64
	Length  uint64
	Profile string // as "DUP", in the words of `btrfs filesystem df`
	Copies  []Copy // of its beginning
}

// A Copy is where a device holds data.
type Copy struct {
	Device     string // path; "" if it is missing
	DeviceUUID UUID
	Physical   int64 // in bytes from the beginning of the device
}

// At gives the copies of what is at a logical address within the chunk.
func (c Chunk) At(logical uint64) []Copy {
	var copies []Copy
	for _, copy := range c.Copies {
		copy.Physical += int64(logical - c.Logical)
		copies = append(copies, copy)
	}
	return copies
}

// linux/btrfs_tree.h
const (
	chunkTree       = 3
	firstChunk      = 256 // BTRFS_FIRST_CHUNK_TREE_OBJECTID
	chunkItemKey    = 228
	chunkHeaderSize = 48 // struct btrfs_chunk without its stripes
	stripeSize      = 32 // struct btrfs_stripe
	profileMask     = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<9 | 1<<10

	chunkTypeOffset  = 24
	chunkStripesAt   = 44
	chunkDeviceUUID  = 16
	chunkPhysicalOff = 8
)

// profiles are those in which every copy of a chunk is in one piece. linux/btrfs_tree.h: BTRFS_BLOCK_GROUP_RAID1 and the others
var profiles = map[uint64]string{0: "single", 1 << 4: "RAID1", 1 << 5: "DUP", 1 << 9: "RAID1C3", 1 << 10: "RAID1C4"}

var otherProfiles = map[uint64]string{1 << 3: "RAID0", 1 << 6: "RAID10", 1 << 7: "RAID5", 1 << 8: "RAID6"}

// Locate gives the chunk with a logical address. Of profiles other than single, DUP and RAID1 with two to four copies, and of
// filesystems that map addresses in another way, the error is ErrUnsupported. It needs CAP_SYS_ADMIN.
func Locate(dir *os.File, logical uint64) (Chunk, error) {
	if err := checkFeatures(dir); err != nil {
		return Chunk{}, err
	}
	var found []byte
	var c Chunk
	all, last := key{firstChunk, chunkItemKey, 0}, key{firstChunk, chunkItemKey, logical}
	err := searchRange(dir, chunkTree, 0, all, last, func(k key, item []byte) {
		if k.Kind == chunkItemKey && len(item) >= chunkHeaderSize {
			c.Logical, c.Length, found = k.Offset, le.Uint64(item), append(found[:0], item...)
		}
	})
	if err != nil {
		return Chunk{}, fmt.Errorf("reading where the devices of %s hold what: %w", dir.Name(), err)
	}
	if found == nil || logical-c.Logical >= c.Length {
		return Chunk{}, fmt.Errorf("nothing is at block %d of %s", logical, dir.Name())
	}
	profile := le.Uint64(found[chunkTypeOffset:]) & profileMask
	var ok bool
	if c.Profile, ok = profiles[profile]; !ok {
		return Chunk{}, fmt.Errorf("data in the profile %s is %w", otherProfiles[profile], ErrUnsupported)
	}
	for i := range int(le.Uint16(found[chunkStripesAt:])) {
		stripe := found[min(len(found), chunkHeaderSize+i*stripeSize):]
		if len(stripe) < stripeSize {
			return Chunk{}, fmt.Errorf("the chunk at %d of %s is malformed", c.Logical, dir.Name())
		}
		copy := Copy{Physical: int64(le.Uint64(stripe[chunkPhysicalOff:])), DeviceUUID: uuidAt(stripe, chunkDeviceUUID)}
		if copy.Device, err = devicePath(dir, le.Uint64(stripe)); err != nil {
			return Chunk{}, err
		}
		c.Copies = append(c.Copies, copy)
	}
	return c, nil
}

// checkFeatures refuses filesystems on which an address does not mean what Locate takes it for: zoned ones, whose blocks cannot be
// written again, those with a tree of stripes, and those of later kernels.
func checkFeatures(dir *os.File) error {
	const zoned, extentTreeV2, stripeTree = 1 << 12, 1 << 13, 1 << 14 // linux/btrfs.h: BTRFS_FEATURE_INCOMPAT_ZONED and so on
	const simpleQuota = 1 << 16
	const known = 1<<12 - 1 | simpleQuota
	flags := make([]byte, 24) // linux/btrfs.h: struct btrfs_ioctl_feature_flags
	if err := ioctl(dir, iocGetFeatures, flags); err != nil {
		return fmt.Errorf("reading the features of the filesystem of %s: %w", dir.Name(), err)
	}
	switch features := native.Uint64(flags[16:]); {
	case features&zoned != 0:
		return fmt.Errorf("a zoned filesystem is %w", ErrUnsupported)
	case features&(extentTreeV2|stripeTree) != 0, features&^uint64(known) != 0:
		return fmt.Errorf("a filesystem with the features %#x is %w", features, ErrUnsupported)
	}
	return nil
}

func devicePath(dir *os.File, id uint64) (string, error) {
	arg := make([]byte, 4096) // linux/btrfs.h: struct btrfs_ioctl_dev_info_args
	native.PutUint64(arg, id)
	err := ioctl(dir, iocDevInfo, arg)
	if errors.Is(err, unix.ENODEV) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for device %d of %s: %w", id, dir.Name(), err)
	}
	return cString(arg[3072:]), nil
}

// Relocating tells what is moving data of the filesystem to other places, or may go on to do it at any moment, as "balance
// paused"; "": nothing. It needs CAP_SYS_ADMIN.
func Relocating(dir *os.File) (string, error) {
	arg := make([]byte, 1024) // linux/btrfs.h: struct btrfs_ioctl_balance_args
	if err := ioctl(dir, iocBalanceProgress, arg); err == nil {
		return "a balance", nil
	} else if !errors.Is(err, unix.ENOTCONN) {
		return "", fmt.Errorf("asking whether a balance of %s is running: %w", dir.Name(), err)
	}
	arg = make([]byte, 2600) // linux/btrfs.h: struct btrfs_ioctl_dev_replace_args
	const status, started, suspended = 1, 1, 4
	native.PutUint64(arg, status)
	if err := ioctl(dir, iocDevReplace, arg); err != nil {
		return "", fmt.Errorf("asking whether a device of %s is being replaced: %w", dir.Name(), err)
	}
	if state := native.Uint64(arg[16:]); state == started || state == suspended {
		return "the replacement of a device", nil
	}
	id, err := FilesystemID(dir)
	if err != nil {
		return "", err
	}
	// Linux 5.11 tells here of the removal of a device and of a change of size, too.
	said, err := os.ReadFile("/sys/fs/btrfs/" + id.String() + "/exclusive_operation")
	if what := strings.TrimSpace(string(said)); err == nil && what != "none" {
		return strconv.Quote(what), nil
	}
	return "", nil
}
