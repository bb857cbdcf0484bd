package btrfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Size tells how much a subvolume holds, in bytes.
type Size struct {
	Referenced uint64
	Exclusive  uint64 // what deleting it would free
}

// Sizes reads the sizes of subvolumes, by ID, from the quota groups. It is empty where quotas are off or may not be read.
func Sizes(dir *os.File) (map[uint64]Size, error) {
	sizes := make(map[uint64]Size)
	err := searchTree(dir, quotaTree, 0, key{Kind: qgroupInfoKey}, func(k key, item []byte) {
		const levelShift = 48 // the upper 16 bits are the level: 0 for a subvolume's own group
		if k.Kind == qgroupInfoKey && k.Offset>>levelShift == 0 && len(item) >= 40 {
			// linux/btrfs_tree.h: struct btrfs_qgroup_info_item
			sizes[k.Offset] = Size{Referenced: le.Uint64(item[8:]), Exclusive: le.Uint64(item[24:])}
		}
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the quota groups of %s: %w", dir.Name(), err)
	}
	return sizes, nil
}
