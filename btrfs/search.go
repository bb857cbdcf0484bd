package btrfs

import (
	"cmp"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Key is that of an item in a tree of the filesystem (linux/btrfs_tree.h: struct btrfs_key).
type Key struct {
	ObjectID uint64
	Kind     uint8
	Offset   uint64
}

type key = Key

// LastKey is behind all items of the trees of subvolumes.
func LastKey() Key { return key{lastFreeObjectID, 255, maxUint64} }

// Compare orders keys as trees do.
func (k key) Compare(with Key) int {
	return cmp.Or(cmp.Compare(k.ObjectID, with.ObjectID), cmp.Compare(k.Kind, with.Kind), cmp.Compare(k.Offset, with.Offset))
}

// Next gives the key behind k.
func (k key) Next() Key {
	if k.Offset++; k.Offset != 0 {
		return k
	}
	if k.Kind++; k.Kind != 0 {
		return k
	}
	k.ObjectID++
	return k
}

// searchTree calls found for the items of a tree from a key on, in order, that lie in blocks written since a transaction. The
// item is valid during the call only.
func searchTree(dir *os.File, tree, since uint64, from key, found func(key, []byte)) error {
	return searchRange(dir, tree, since, from, LastKey(), found)
}

// SearchTree is for whoever knows what the items of a tree mean: it calls found for those between two keys, in order, that lie in blocks
// written since a transaction. The item is valid during the call only. It needs CAP_SYS_ADMIN.
func SearchTree(dir *os.File, tree, since uint64, from, last Key, found func(Key, []byte)) error {
	return searchRange(dir, tree, since, from, last, found)
}

// searchRange is searchTree up to a key.
func searchRange(dir *os.File, tree, since uint64, from, last key, found func(key, []byte)) error {
	arg := searches.Get().(*Search)
	defer searches.Put(arg)
	return arg.Range(dir, tree, since, from, last, func(k key, item []byte) bool { found(k, item); return true })
}

// mostFound has room for any item, which is smaller than the largest node (linux/fs/btrfs/fs.h: BTRFS_MAX_METADATA_BLOCKSIZE).
const mostFound = 64 << 10

// searches are buffers that are used again: many searches find next to nothing.
var searches = sync.Pool{New: func() any {
	a := NewSearch(3 * mostFound)
	return &a
}}

// A Search is SearchTree step by step. It is a struct btrfs_ioctl_search_args_v2 (linux/btrfs.h) with its buffer.
type Search []byte

const searchArgSize = 112 // without the buffer

// NewSearch makes a buffer of so many bytes. The first item that it has no room for is unix.EOVERFLOW.
func NewSearch(size int) Search { return make(Search, searchArgSize+size) }

// Size is that of the buffer.
func (a Search) Size() int { return len(a) - searchArgSize }

// Next reads as many items as the buffer takes, at least one, and tells how many; 0 if there are none up to the last key.
func (a Search) Next(dir *os.File, tree, since uint64, from, last key) (count uint32, err error) {
	native.PutUint64(a[0:], tree)
	native.PutUint64(a[8:], from.ObjectID)
	native.PutUint64(a[16:], last.ObjectID)
	native.PutUint64(a[24:], from.Offset)
	native.PutUint64(a[32:], last.Offset)
	native.PutUint64(a[40:], since)
	native.PutUint64(a[48:], maxUint64)
	native.PutUint32(a[56:], uint32(from.Kind))
	native.PutUint32(a[60:], uint32(last.Kind))
	native.PutUint32(a[64:], 1<<32-1)
	native.PutUint64(a[104:], uint64(len(a)-searchArgSize))
	if err := ioctl(dir, iocTreeSearchV2, a); err != nil {
		return 0, err
	}
	return native.Uint32(a[64:]), nil
}

// Range is SearchTree with a buffer that is kept, and grows if it has to. It ends when found gives false.
func (a *Search) Range(dir *os.File, tree, since uint64, from, last Key, found func(Key, []byte) bool) error {
	for {
		count, err := a.Next(dir, tree, since, from, last)
		if errors.Is(err, unix.EOVERFLOW) && a.Size() < mostFound { // one item is larger
			*a = NewSearch(mostFound)
			continue
		}
		if err != nil || count == 0 {
			return err
		}
		more := true
		at, left := a.each(count, func(k Key, item []byte) { more = more && found(k, item) })
		from = at.Next()
		if !more || from.Compare(last) > 0 || left > mostFound { // with so much room, the kernel would have given the next one, too
			return nil
		}
	}
}

// Each calls found for the items that were read, and gives the key of the last one.
func (a Search) Each(count uint32, found func(key, []byte)) Key {
	k, _ := a.each(count, found)
	return k
}

func (a Search) each(count uint32, found func(key, []byte)) (k key, left int) {
	const headerSize = 32 // struct btrfs_ioctl_search_header
	rest := a[searchArgSize:]
	for range count {
		k = key{native.Uint64(rest[8:]), uint8(native.Uint32(rest[24:])), native.Uint64(rest[16:])}
		size := native.Uint32(rest[28:])
		found(k, rest[headerSize:headerSize+size])
		rest = rest[headerSize+size:]
	}
	return k, len(rest)
}
