package wire

import "slices"

// order is the part of the stream between what was handed on and the farthest block.
type order struct {
	next    uint64 // offset of the first byte that was not handed on
	pending []*chunk
	end     uint64
	ended   bool
}

// A chunk is the place of a block.
type chunk struct {
	offset uint64
	data   []byte
	filled bool
	buf    *buffer
}

func newChunk(offset uint64, n int) *chunk {
	c := &chunk{offset: offset}
	if n != blockSize { // nothing holds more memory than it was sent for
		c.data = make([]byte, n)
		return c
	}
	c.buf = newBuffer()
	c.data = c.buf[:blockSize]
	return c
}

func (c *chunk) free() {
	if c.buf != nil {
		buffers.Put(c.buf)
	}
}

func (c *chunk) endOffset() uint64 { return c.offset + uint64(len(c.data)) }

// claim reserves n bytes at an offset.
func (o *order) claim(offset uint64, n int, taken uint64) (*chunk, error) {
	end := offset + uint64(n)
	switch {
	case offset < o.next:
		return nil, malformed("a block at %d after the one that ends at %d", offset, o.next)
	case end < offset || end > taken+maxAhead:
		return nil, malformed("a block at %d, too far ahead of %d", offset, taken)
	case o.ended && end > o.end:
		return nil, malformed("a block at %d behind the end at %d", offset, o.end)
	case len(o.pending) >= maxPending:
		return nil, malformed("more than %d blocks ahead", maxPending)
	}
	i, found := slices.BinarySearchFunc(o.pending, offset, func(c *chunk, offset uint64) int {
		switch {
		case c.offset < offset:
			return -1
		case c.offset > offset:
			return 1
		}
		return 0
	})
	if found || i > 0 && o.pending[i-1].endOffset() > offset || i < len(o.pending) && o.pending[i].offset < end {
		return nil, malformed("a block at %d overlaps another", offset)
	}
	c := newChunk(offset, n)
	o.pending = slices.Insert(o.pending, i, c)
	return c, nil
}

// pop hands on the chunk at the head, if it is there.
func (o *order) pop() *chunk {
	if len(o.pending) == 0 || o.pending[0].offset != o.next || !o.pending[0].filled {
		return nil
	}
	c := o.pending[0]
	o.pending = slices.Delete(o.pending, 0, 1)
	o.next = c.endOffset()
	return c
}

// finish notes the length of the stream.
func (o *order) finish(end uint64) error {
	switch {
	case o.ended:
		return malformed("a second end, at %d after %d", end, o.end)
	case end < o.next || len(o.pending) > 0 && end < o.pending[len(o.pending)-1].endOffset():
		return malformed("the end at %d, before the end of a block", end)
	}
	o.end, o.ended = end, true
	return nil
}

// complete tells that everything was handed on.
func (o *order) complete() bool { return o.ended && o.next == o.end }
