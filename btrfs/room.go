package btrfs

import (
	"fmt"
	"os"
)

// A Room is what a filesystem has set apart for one kind of what it holds, in all profiles of it together.
type Room struct {
	Kind  string // "data", "metadata", or "data and metadata" of a filesystem that mixes them
	Used  uint64 // bytes
	Total uint64 // bytes, without what is reserved for the filesystem itself
}

// Fullest gives the room of which the least part is free, as of the last commit. Where something does not fit, it is that one:
// the kernel sets more apart for a kind as long as it can.
func Fullest(dir *os.File) (Room, error) {
	const header, entry, most = 16, 24, 64 // linux/btrfs.h: struct btrfs_ioctl_space_args, struct btrfs_ioctl_space_info
	arg := make([]byte, header+most*entry)
	native.PutUint64(arg, most)
	if err := ioctl(dir, iocSpaceInfo, arg); err != nil {
		return Room{}, fmt.Errorf("reading what is free in the filesystem of %s: %w", dir.Name(), err)
	}
	const data, metadata, reserve = 1 << 0, 1 << 2, 1 << 49 // linux/btrfs_tree.h: BTRFS_BLOCK_GROUP_DATA and others
	rooms := map[uint64]*Room{data: {Kind: "data"}, metadata: {Kind: "metadata"}, data | metadata: {Kind: "data and metadata"}}
	var reserved uint64
	for i := range min(native.Uint64(arg[8:]), most) {
		e := arg[header+i*entry:]
		kind, total, used := native.Uint64(e), native.Uint64(e[8:]), native.Uint64(e[16:])
		if kind&reserve != 0 {
			reserved = total - min(used, total)
		} else if r := rooms[kind&(data|metadata)]; r != nil {
			r.Total, r.Used = r.Total+total, r.Used+used
		}
	}
	var fullest Room
	free := 2.0
	for _, kind := range []uint64{data, metadata, data | metadata} {
		r := *rooms[kind]
		if r.Total == 0 {
			continue
		}
		if kind&metadata != 0 {
			r.Total -= min(reserved, r.Total)
		}
		if part := 1 - float64(r.Used)/float64(max(r.Total, 1)); part < free {
			fullest, free = r, part
		}
	}
	return fullest, nil
}
