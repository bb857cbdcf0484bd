package exclusive

import (
	"errors"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// A cursor finds items of a tree by keys that are asked for in their order. It reads ahead where many are asked for.
type cursor struct {
	dir  *os.File
	tree uint64

	buffer btrfs.Search
	items  []found
	next   btrfs.Key // the first that was not looked at
}

type found struct {
	btrfs.Key
	item []byte
}

const (
	leastAhead = 512
	mostAhead  = 64 << 10
)

// find gives the item with a key, until the next call; nil if there is none, or no such tree.
func (c *cursor) find(k btrfs.Key) ([]byte, error) {
	if c.buffer == nil || k.Compare(c.next) >= 0 {
		if err := c.read(k); err != nil {
			return nil, err
		}
	}
	i, ok := slices.BinarySearchFunc(c.items, k, func(f found, k btrfs.Key) int { return f.Compare(k) })
	if !ok {
		return nil, nil
	}
	return c.items[i].item, nil
}

// read reads on from a key: twice as much as before if all of that was passed through, else little.
func (c *cursor) read(k btrfs.Key) error {
	size := leastAhead
	if n := len(c.items); n > 0 && k.ObjectID-c.items[n-1].ObjectID <= 2 {
		size = min(2*(c.buffer.Size()), mostAhead)
	}
	for {
		if c.buffer.Size() != size {
			c.buffer = btrfs.NewSearch(size)
		}
		c.items = c.items[:0]
		last := btrfs.LastKey()
		count, err := c.buffer.Next(c.dir, c.tree, 0, k, last)
		switch {
		case errors.Is(err, unix.EOVERFLOW) && size < mostAhead: // the first item is larger
			size = mostAhead
			continue
		case errors.Is(err, unix.ENOENT): // the tree was deleted
			c.next = last
			return nil
		case err != nil:
			return err
		}
		c.next = last
		if count > 0 {
			c.next = c.buffer.Each(count, func(k btrfs.Key, item []byte) { c.items = append(c.items, found{k, item}) }).Next()
		}
		return nil
	}
}
