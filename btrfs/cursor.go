package btrfs

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A cursor finds items of a tree by keys that are asked for in their order. It reads ahead where many are asked for.
type cursor struct {
	dir  *os.File
	tree uint64

	buffer search
	items  []found
	next   key // the first that was not looked at
}

type found struct {
	key
	item []byte
}

const (
	leastAhead = 512
	mostAhead  = 64 << 10
)

// find gives the item with a key, until the next call; nil if there is none, or no such tree.
func (c *cursor) find(k key) ([]byte, error) {
	if c.buffer == nil || k.compare(c.next) >= 0 {
		if err := c.read(k); err != nil {
			return nil, err
		}
	}
	i, ok := slices.BinarySearchFunc(c.items, k, func(f found, k key) int { return f.compare(k) })
	if !ok {
		return nil, nil
	}
	return c.items[i].item, nil
}

// read reads on from a key: twice as much as before if all of that was passed through, else little.
func (c *cursor) read(k key) error {
	size := leastAhead
	if n := len(c.items); n > 0 && k.objectID-c.items[n-1].objectID <= 2 {
		size = min(2*(len(c.buffer)-searchArgSize), mostAhead)
	}
	for {
		if len(c.buffer)-searchArgSize != size {
			c.buffer = newSearch(size)
		}
		c.items = c.items[:0]
		last := key{lastFreeObjectID, 255, maxUint64}
		count, err := c.buffer.next(c.dir, c.tree, 0, k, last)
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
			c.next = c.buffer.each(count, func(k key, item []byte) { c.items = append(c.items, found{k, item}) }).next()
		}
		return nil
	}
}

func (k key) compare(with key) int {
	return cmp.Or(cmp.Compare(k.objectID, with.objectID), cmp.Compare(k.kind, with.kind), cmp.Compare(k.offset, with.offset))
}
