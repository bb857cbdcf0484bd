package sendstream

import (
	"fmt"
	"io"
)

// maxExtentSize keeps sums within 63 bits.
const maxExtentSize = 1 << 61

// Measure reads a stream made by btrfs send --no-data and returns how many
// bytes the same send has with data. Errors are those of Copy.
//
// The result is exact for a sender with pages of 4 or 16 KiB. One with pages
// of 64 KiB writes fewer and larger commands in protocol 2, so its stream is a
// little shorter. With --compressed-data the result is an upper bound.
func Measure(r io.Reader) (int64, error) {
	commands := NewReader(r)
	total := int64(streamHeaderSize)
	for {
		c, err := commands.Next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return 0, err
		}
		n, err := c.sizeWithData()
		if err != nil {
			return 0, err
		}
		if total += n; total < 0 {
			return 0, fmt.Errorf("%w: sum of extents exceeds 63 bits", ErrCorrupt)
		}
	}
}

// sizeWithData returns the size of c, or of the writes that stand in its place
// if the stream has data.
//
// linux/fs/btrfs/send.c: send_extent_data, send_update_extent
func (c Command) sizeWithData() (int64, error) {
	if c.Type != CmdUpdateExtent {
		return int64(c.size()), nil
	}
	path, err := c.Text(AttrPath)
	if err != nil {
		return 0, err
	}
	size, err := c.Uint64(AttrSize)
	if err != nil {
		return 0, err
	}
	if size > maxExtentSize {
		return 0, fmt.Errorf("%w: extent of %d bytes", ErrCorrupt, size)
	}
	// linux/fs/btrfs/send.c: max_send_read_size: the buffer less 16 KiB
	chunk := int64(48 << 10)
	if c.protocol >= 2 {
		chunk = 128 << 10
	}
	const offset = 8
	write := commandHeaderSize +
		c.attrHeaderSize(AttrPath) + len(path) +
		c.attrHeaderSize(AttrFileOffset) + offset +
		c.attrHeaderSize(AttrData)
	writes := (int64(size) + chunk - 1) / chunk
	return int64(size) + writes*int64(write), nil
}
